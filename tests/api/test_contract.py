"""The document that the service gives of itself, and whether the service does what it says.

schemathesis reads it and sends what it allows and what it forbids; it runs as a command of its own, so that nothing of
it (plugins, hooks, warnings) reaches the other tests. The same requests are sent every time.
"""

import asyncio
import json
import re
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from fastapi import FastAPI
from pydantic import SecretStr

from runware_provider.api.examples import PARAMETERS
from runware_provider.api.guard import OPEN_PATHS
from tests.api.conftest import undocumented
from tests.service import Service, a_service

TOKEN = "a-client-token"
EXAMPLES = 6
"""Requests that are made up for each operation, beside those that follow from the document."""

SLOW = 60.0
"""Seconds after which a run is ended; it takes less than ten."""

ENDLESS = "/v1/events"
"""A stream that ends with the service is nothing for a tool that reads answers to their end."""

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "QUERY")

# What this test gives to schemathesis: ids that exist (now and then, so that unknown ones are tried, too), others to be
# deleted, and the token of a webhook. And where a refusal is right though the document allows the request: it is
# Runware's (`model`, `sort`), about a word that only we can make (`cursor`), or about what came before (a key).
CONFIG = """
continue-on-failure = true
request-timeout = 20
[cache]
enabled = false
[generation]
deterministic = true
max-examples = {examples}
[headers]
{headers}
[dictionaries]
generations = {{ values = {generations} }}
doomed = {{ values = {doomed} }}
keys = {{ values = {keys} }}
[parameters]
"path.generation_id" = {{ dictionary = "generations", probability = 0.5 }}
"header.idempotency-key" = {{ dictionary = "keys", probability = 0.9 }}
[[operations]]
include-name = "DELETE /v1/generations/{{generation_id}}"
[operations.parameters]
"path.generation_id" = {{ dictionary = "doomed", probability = 1 }}
[[operations]]
include-path-regex = "/outputs/"
parameters = {{ "path.generation_id" = "{kept}", "path.output_id" = "{output}" }}
[[operations]]
include-name = "POST /webhooks/runware"
parameters = {{ "query.generation_id" = "{kept}", "query.token" = "{token}" }}
[[operations]]
include-name = ["POST /v1/generations", "GET /v1/generations", "GET /v1/models", "POST /v1/retry"]
[operations.checks.positive_data_acceptance]
expected-statuses = ["2xx", 409, 422]
"""


async def config(service: Service) -> str:
    """The settings of a run against `service`, with generations for it."""
    kept = await service.made()

    async def ids(count: int) -> str:
        return json.dumps([str((await service.made()).id) for _ in range(count)])

    return CONFIG.format(
        examples=EXAMPLES,
        headers="\n".join(f"{name} = {json.dumps(value)}" for name, value in service.headers.items()),
        generations=await ids(5),
        doomed=await ids(5),
        keys=json.dumps([f"key-{number}" for number in range(500)]),
        kept=kept.id,
        output=kept.outputs[0].id,
        token=service.ctx.tokens.token(kept.id),
    )


async def schemathesis(service: Service, folder: Path, *options: str) -> str:
    """Run it against `service`, note in `service.seen` what was answered, and return what it found; empty for nothing.

    It leaves what it writes in `folder`.
    """
    (folder / "schemathesis.toml").write_text(await config(service))
    command = ["-m", "schemathesis.cli", "--no-color", "run", f"{service.url}/openapi.json", "--exclude-path", ENDLESS]
    report = ["--report", "har", "--report-har-path", "report.har"]
    process = await asyncio.create_subprocess_exec(
        sys.executable, *command, *report, *options, cwd=folder, stdout=-1, stderr=-2
    )
    try:
        async with asyncio.timeout(SLOW):
            output, _ = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        raise
    for entry in json.loads((folder / "report.har").read_text())["log"]["entries"]:
        request = entry["request"]
        service.seen.add((request["method"], urlsplit(request["url"]).path, entry["response"]["status"]))
    return output.decode() if process.returncode else ""


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Method, path and what is said, of everything that can be asked."""
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation


def never_done(service: Service) -> list[str]:
    """The operations of `service` that succeeded not once."""
    assert isinstance(service.app, FastAPI)
    done = {(method, path) for method, path, status in service.seen if status < 300}
    return [
        f"{method} {template}"
        for method, template, _ in operations(service.app.openapi())
        if template != ENDLESS
        and not any(
            method == asked and re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", template), path) for asked, path in done
        )
    ]


async def test_the_service_does_what_its_document_says(tmp_path: Path) -> None:
    """Nothing allowed or forbidden is answered in a way that is not documented, or with an error of ours.

    Each operation alone, at the limits and beyond, and one after the other; without a token there is only 401.
    """
    async with a_service(tmp_path, client_tokens=(SecretStr(TOKEN),)) as service:
        service.headers = {"Authorization": f"Bearer {TOKEN}"}

        found = await schemathesis(service, tmp_path)

        assert not found, found
        assert undocumented(service) == []
        assert never_done(service) == []


async def test_the_service_without_tokens_does_what_its_document_says(tmp_path: Path) -> None:
    """As it is on a laptop: no token is asked for, and none is documented."""
    async with a_service(tmp_path) as service:
        found = await schemathesis(service, tmp_path, "--phases", "examples,fuzzing")

        assert not found, found
        assert undocumented(service) == []
        assert never_done(service) == []


# The document


@pytest.mark.parametrize("tokens", [(), (SecretStr(TOKEN),)])
async def test_the_document_says_whether_a_token_is_needed(tmp_path: Path, tokens: tuple[SecretStr, ...]) -> None:
    """For the client API and the metrics: health is open, and a webhook has its own."""
    async with a_service(tmp_path, work=False, runware_url="http://127.0.0.1:9/v1", client_tokens=tokens) as service:
        answer = await service.get("/openapi.json", headers={"Authorization": f"Bearer {TOKEN}"})

        assert answer.json["components"]["securitySchemes"]["client_token"]["scheme"] == "bearer"
        for _, path, operation in operations(answer.json):
            asks = operation.get("security") == [{"client_token": []}]
            assert asks == (bool(tokens) and path not in OPEN_PATHS), path


async def test_everything_has_an_example(service: Service) -> None:
    """Of what is asked and of each answer that is text; an image speaks for itself."""
    for method, path, operation in operations((await service.get("/openapi.json")).json):
        for parameter in operation.get("parameters", ()):
            assert "example" in parameter, (method, path, parameter["name"])
        for status, holder in (("request", operation.get("requestBody", {})), *operation["responses"].items()):
            for content_type, media in holder.get("content", {}).items():
                shown = "example" in media or media.get("examples") or content_type.startswith("image/")
                assert shown, (method, path, status, content_type)


async def test_the_examples_are_answered(service: Service) -> None:
    """A cursor and filters that are shown can be used as they are."""
    names = ("status", "model", "created_after", "created_before", "prompt", "error", "limit", "cursor")
    query = {name: str(PARAMETERS[name]) for name in names}

    assert (await service.get("/v1/generations", params=query)).status == 200


async def test_the_guards_answers_are_documented_everywhere(service: Service) -> None:
    """Without a token, from a strange name, with too much: the routes do not say it themselves."""
    for method, path, operation in operations((await service.get("/openapi.json")).json):
        if path.startswith("/v1/"):
            assert {"401", "403", "413", "431"} <= operation["responses"].keys(), (method, path)


async def test_images_and_events_are_documented_as_what_they_are(service: Service) -> None:
    """The types of the images that are kept; events one by one, as clients read them."""
    paths = (await service.get("/openapi.json")).json["paths"]
    content = paths["/v1/generations/{generation_id}/outputs/{output_id}/content"]["get"]["responses"]
    events = paths["/v1/generations/{generation_id}/events"]["get"]["responses"]["200"]["content"]

    for status in ("200", "206"):
        assert {"image/jpeg", "image/png", "image/webp"} <= content[status]["content"].keys()
    assert list(events) == ["text/event-stream"]
    kinds = [shape["properties"]["event"]["const"] for shape in events["text/event-stream"]["schema"]["oneOf"]]
    assert kinds == ["state", "deleted", "problem"]
    everything = paths[ENDLESS]["get"]["responses"]["200"]["content"]["text/event-stream"]
    kinds = [shape["properties"]["event"]["const"] for shape in everything["schema"]["oneOf"]]
    assert kinds == ["ready", "changed", "reload", "problem"]
    assert [*everything["examples"]] == kinds


# Methods and paths


async def test_a_wrong_method_is_told_all_that_its_path_takes(service: Service) -> None:
    """Not only those of the first route that fits."""
    taken: dict[str, set[str]] = defaultdict(set)
    for method, path, _ in operations((await service.get("/openapi.json")).json):
        taken[path].add(method)

    for path, methods in taken.items():
        for wrong in sorted({*METHODS} - methods):
            answer = await service.ask(wrong, path.format(generation_id="a", output_id="b"))
            allowed = set(answer.headers["allow"].split(", "))
            assert answer.problem["status"] == 405, (wrong, path)
            assert allowed - {"HEAD"} == methods, (wrong, path)
            assert "GET" in allowed or "HEAD" not in allowed


async def test_a_slash_too_many_leads_nowhere(service: Service) -> None:
    """Behind a proxy that ends TLS a redirect would name plain HTTP, and a client would send its token there."""
    for path in ("/v1/generations/", "/healthz/", "/openapi.json/"):
        answer = await service.get(path, allow_redirects=False)
        assert answer.problem["status"] == 404, path
