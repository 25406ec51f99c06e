"""OpenAPI of the routes that are plain ASGI for speed, so that clients made from the document have them too."""

from typing import Any

from runware_provider.api.answers import documented, header
from runware_provider.api.examples import DELIVERIES
from runware_provider.tokens import WEBHOOK_PATH

_UUID = {"type": "string", "format": "uuid"}


def _parameter(name: str, where: str, schema: dict[str, Any], *, required: bool = True) -> dict[str, Any]:
    return {"name": name, "in": where, "required": required, "schema": schema}


def _answers(*statuses: int) -> dict[str, Any]:
    return {str(status): answer for status, answer in documented(*statuses).items()}


def _text(description: str, example: str) -> dict[str, Any]:
    content = {"text/plain": {"schema": {"type": "string"}, "example": f"{example}\n"}}
    return {"description": description, "content": content}


_IMAGE_TYPES = ("image/jpeg", "image/png", "image/webp", "image/avif", "image/gif")
_CACHE = {
    "ETag": header("The SHA-256 of the whole image.", '"9f86d081884c7d65…"'),
    "Cache-Control": header("It never changes.", "private, max-age=31536000, immutable"),
    "Accept-Ranges": header("Parts can be had.", "bytes"),
}


def _image(description: str, **headers: dict[str, Any]) -> dict[str, Any]:
    schema = {"type": "string", "format": "binary"}
    return {
        "description": description,
        "headers": _CACHE | headers,
        "content": {content_type: {"schema": schema} for content_type in _IMAGE_TYPES},
    }


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
            "requestBody": {"content": {"application/json": {"schema": {}, "examples": DELIVERIES}}},
            "responses": {
                "200": _text("Committed, whatever the body holds.", "ok"),
                "401": _text("Wrong or missing token.", "wrong or missing token"),
                "408": _text("The body did not arrive in time.", "the body did not arrive in time"),
                "413": _text("The body is over MAX_BODY_BYTES.", "the body is too large"),
                "503": _text("Nothing can be committed now: deliver again.", "cannot be committed now, deliver again"),
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
                _parameter("redirect", "query", {"enum": ["true", "false"], "default": "true"}, required=False),
                _parameter("Range", "header", {"type": "string"}, required=False),
                _parameter("If-Range", "header", {"type": "string"}, required=False),
                _parameter("If-None-Match", "header", {"type": "string"}, required=False),
            ],
            "responses": {
                "200": _image("The whole image."),
                "206": _image(
                    "A part of it.", **{"Content-Range": header("Which part, of how many.", "bytes 0-1023/48213")}
                ),
                "304": {"description": "You have it already.", "headers": _CACHE},
                "307": {
                    "description": "With CONTENT_REDIRECTS: the bucket has it, at an address good for 5 minutes.",
                    "headers": {
                        "Location": header("A signed address.", "https://images.s3.amazonaws.com/generations/…"),
                        "Cache-Control": header("It is made anew each time.", "no-store"),
                    },
                },
                **_answers(404, 416, 500, 503),
            },
        }
    },
}
