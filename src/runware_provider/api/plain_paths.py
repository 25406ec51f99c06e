"""OpenAPI of the routes that are plain ASGI for speed, so that clients made from the document have them too."""

from typing import Any

from runware_provider.api.problems import documented
from runware_provider.tokens import WEBHOOK_PATH

_UUID = {"type": "string", "format": "uuid"}


def _parameter(name: str, where: str, schema: dict[str, Any], *, required: bool = True) -> dict[str, Any]:
    return {"name": name, "in": where, "required": required, "schema": schema}


def _answers(*statuses: int) -> dict[str, Any]:
    return {str(status): answer for status, answer in documented(*statuses).items()}


_TEXT = {"content": {"text/plain": {"schema": {"type": "string"}}}}
_IMAGE = {"content": {"image/*": {"schema": {"type": "string", "format": "binary"}}}}

PLAIN_PATHS: dict[str, Any] = {
    WEBHOOK_PATH: {
        "post": {
            "tags": ["webhook"],
            "summary": "Runware's deliveries; 200 means committed",
            "operationId": "webhook",
            "parameters": [
                _parameter("generation_id", "query", _UUID),
                _parameter("token", "query", {"type": "string"}),
            ],
            "requestBody": {"content": {"application/json": {"schema": {}}}},
            "responses": {
                "200": {"description": "Committed, whatever the body holds.", **_TEXT},
                "401": {"description": "Wrong or missing token.", **_TEXT},
                "408": {"description": "The body did not arrive in time.", **_TEXT},
                "413": {"description": "The body is over MAX_BODY_BYTES.", **_TEXT},
                "503": {"description": "Nothing can be committed now: deliver again.", **_TEXT},
            },
        }
    },
    "/v1/generations/{generation_id}/outputs/{output_id}/content": {
        "get": {
            "tags": ["generations"],
            "summary": "The bytes of an image; `Range`, `ETag`",
            "operationId": "content",
            "parameters": [
                _parameter("generation_id", "path", _UUID),
                _parameter("output_id", "path", _UUID),
                _parameter("Range", "header", {"type": "string"}, required=False),
                _parameter("If-None-Match", "header", {"type": "string"}, required=False),
            ],
            "responses": {
                "200": {"description": "The whole image.", **_IMAGE},
                "206": {"description": "A part of it.", **_IMAGE},
                "304": {"description": "You have it already."},
                **_answers(404, 416, 503),
            },
        }
    },
}
