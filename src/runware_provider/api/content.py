"""The bytes of a stored image: ranges, ETag, streaming. A plain Starlette route."""

import re
from uuid import UUID

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from runware_provider.api.problems import problem
from runware_provider.artifacts import StoreUnavailable
from runware_provider.context import Context
from runware_provider.errors import InvalidArgs
from runware_provider.remembered import get_image
from runware_provider.types import ArtifactSummary, OutputArgs, SuccessOutput

_RANGE = re.compile(r"bytes=(\d*)-(\d*)")


async def output_content(ctx: Context, request: Request) -> Response:
    """`GET /v1/generations/{id}/outputs/{output_id}/content`."""
    try:
        args = OutputArgs(
            generation_id=UUID(request.path_params["generation_id"]), output_id=UUID(request.path_params["output_id"])
        )
    except ValueError:
        return problem(404, "there is no such output: the ids in the path are not UUIDs")
    output = await get_image(ctx, args)
    if output is None:
        return problem(404, "this output is an error and has no content; GET it without /content to see why")
    etag = f'"{output.sha256}"'
    headers = {
        "ETag": etag,
        "Accept-Ranges": "bytes",
        "Cache-Control": "private, max-age=31536000, immutable",
        "Content-Security-Policy": "default-src 'none'; sandbox",
        "X-Content-Type-Options": "nosniff",
    }
    if _names(request.headers.get("if-none-match"), etag):
        return Response(status_code=304, headers=headers)
    address = await _elsewhere(ctx, request, output)
    if address is not None:
        return Response(status_code=307, headers={"Location": address, "Cache-Control": "no-store"})
    try:
        wanted = None if request.method == "HEAD" else _wanted(request, etag, output.size_bytes)
    except _Unsatisfiable:
        beyond = {"Content-Range": f"bytes */{output.size_bytes}"}
        return problem(416, f"the image has {output.size_bytes} bytes", headers=beyond)
    status = 200
    start, stop = wanted or (0, output.size_bytes)
    if wanted is not None:
        status = 206
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{output.size_bytes}"
    headers["Content-Length"] = str(stop - start)
    if request.method == "HEAD":
        return Response(status_code=status, headers=headers, media_type=output.content_type)
    try:
        content = await ctx.artifacts.read(output.key, wanted)
    except InvalidArgs as error:
        raise StoreUnavailable("the object store has less of this image than was stored") from error
    return StreamingResponse(content, status, headers, output.content_type)


async def _elsewhere(ctx: Context, request: Request, output: SuccessOutput | ArtifactSummary) -> str | None:
    """Where the store itself serves the bytes, when clients are to be sent there. Never to be logged."""
    # A peer without an address is a command on the owner's socket, which leads nowhere else.
    if not ctx.settings.content_redirects or request.client is None or request.query_params.get("redirect") == "false":
        return None
    return await ctx.artifacts.sign(output.key, "HEAD" if request.method == "HEAD" else "GET")


def _names(header: str | None, etag: str) -> bool:
    return header is not None and (
        header.strip() == "*" or etag in [each.strip().removeprefix("W/") for each in header.split(",")]
    )


class _Unsatisfiable(Exception):
    """None of the bytes that are asked for exists."""


def _wanted(request: Request, etag: str, size: int) -> tuple[int, int] | None:
    """The bytes that are asked for, as start and stop; None for all.

    Several ranges at once are answered with the whole, as RFC 9110 allows.
    """
    match = _RANGE.fullmatch(request.headers.get("range", "").replace(" ", "")[:60])
    if match is None or not (match[1] or match[2]) or request.headers.get("if-range", etag) != etag:
        return None
    if match[1]:
        start, stop = int(match[1]), min(size, int(match[2]) + 1) if match[2] else size
        if match[2] and int(match[2]) < start:
            return None
    else:
        start, stop = max(0, size - int(match[2])), size
    if start >= size:
        raise _Unsatisfiable
    return start, stop
