"""The OpenAPI document: what FastAPI knows of the routes, and what only we know of them."""

from collections.abc import Iterator
from copy import deepcopy
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from runware_provider.api.answers import components, documented
from runware_provider.api.examples import ALL_EVENTS, BODIES, EVENTS, PARAMETERS
from runware_provider.api.guard import OPEN_PATHS
from runware_provider.api.plain_paths import PLAIN_PATHS
from runware_provider.schemas import RESERVED, ImageInference

GUARDED = (401, 403, 413, 431)
WITH_BODY = (400, 408, 415)
"""What every route of the client API may answer before it is reached, and what those with a body may."""

_Json = dict[str, Any]


def describe(app: FastAPI, *, tokens: bool) -> _Json:
    """The document of `app`; `tokens`: whether its client API asks for one."""
    document = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
    document["paths"] |= deepcopy(PLAIN_PATHS)  # what follows depends on the application
    shapes: _Json = document["components"]["schemas"]
    shapes |= components()
    _describe_input(shapes)
    document["components"]["securitySchemes"] = {
        "client_token": {"type": "http", "scheme": "bearer", "description": "One of RUNWARE_PROVIDER_CLIENT_TOKENS."}
    }
    for path, operations in document["paths"].items():
        for operation in operations.values():
            if path not in OPEN_PATHS:
                _guard(operation, tokens=tokens)
            _give_examples(operation, ALL_EVENTS if path == "/v1/events" else EVENTS)
    return document


def _guard(operation: _Json, *, tokens: bool) -> None:
    if tokens:
        operation["security"] = [{"client_token": []}]
    statuses = (*GUARDED, *(WITH_BODY if "requestBody" in operation else ()))
    for status, answer in documented(*statuses).items():
        operation["responses"].setdefault(str(status), answer)


def _give_examples(operation: _Json, events: _Json) -> None:
    for parameter in operation.get("parameters", ()):
        if parameter["name"] in PARAMETERS:
            parameter["example"] = PARAMETERS[parameter["name"]]
    for content_type, media in _media(operation):
        if content_type == "text/event-stream":
            media["examples"] = events
        schema = media.get("schema", {})
        shape = next(iter(schema.get("anyOf", ())), schema)  # of a body that may be left out
        name = "Output" if "discriminator" in schema else shape.get("$ref", "").rpartition("/")[2]
        if name in BODIES:
            media["examples"] = BODIES[name]


def _media(operation: _Json) -> Iterator[tuple[str, _Json]]:
    for holder in (operation.get("requestBody", {}), *operation["responses"].values()):
        yield from holder.get("content", {}).items()


def _describe_input(shapes: _Json) -> None:
    """Say of a request what is checked when it comes: `input` is a free object to the framework."""
    shape = ImageInference.model_json_schema()
    shapes["ImageInference"] = shape | {
        "propertyNames": {"not": {"enum": sorted(RESERVED)}},
        "description": "Runware's fields by Runware's names; those that are not listed go to Runware untouched.",
    }
    properties = shapes["CreateArgs"]["properties"]
    properties["input"] = {"$ref": "#/components/schemas/ImageInference"}
    properties["metadata"] |= {
        "maxProperties": 32,
        "propertyNames": {"minLength": 1, "maxLength": 64},
        "additionalProperties": {"type": "string", "maxLength": 512},
    }
