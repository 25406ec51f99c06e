"""What an HTML form sends."""

from urllib.parse import parse_qsl

from starlette.requests import Request

from runware_provider.errors import InvalidArgs

MAX_FIELDS = 64
MAX_BYTES = 1024 * 1024
"""Of a form. What is larger belongs into a request of the API's."""


async def read_fields(request: Request) -> dict[str, str]:
    """The fields of a form by name; of those that come twice the last. Raises InvalidArgs for what is no form."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > MAX_BYTES:
            raise InvalidArgs([("body", f"is over {MAX_BYTES} bytes; send what is so large to the API instead")])
    if not body:
        return {}
    if kind != "application/x-www-form-urlencoded":
        raise InvalidArgs([("body", "must be a form (application/x-www-form-urlencoded)")])
    try:
        return dict(parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=MAX_FIELDS, errors="strict"))
    except ValueError:
        raise InvalidArgs([("body", f"must be a form of at most {MAX_FIELDS} fields, as UTF-8")]) from None
