"""Traces: one for each generation, under its own id, from the client's request to the read model."""

import asyncio
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import aiohttp
import pytest
from fastapi import FastAPI
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ParentBased, Sampler, TraceIdRatioBased
from pydantic import SecretStr
from uuid_utils.compat import uuid7

from runware_provider import tracing
from runware_provider.create import create_generation
from runware_provider.exporting import FLUSH, exporting
from runware_provider.stub import get_generation_stub
from runware_provider.webhook import webhook
from tests.conformance.builders import idle
from tests.service import (
    RawRunware,
    Service,
    a_context,
    a_service,
    acknowledges,
    an_input,
    born,
    eventually,
    locked,
    served,
    some_args,
)

Spans = InMemorySpanExporter

CLIENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@contextmanager
def recording(sampler: Sampler | None = None) -> Iterator[Spans]:
    """While this lasts, spans are kept here."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(sampler=sampler, shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracing.use(provider)
    try:
        yield exporter
    finally:
        tracing.use(None)


@pytest.fixture
def spans() -> Iterator[Spans]:
    """What is recorded during a test."""
    with recording() as exporter:
        yield exporter


def of(spans: Spans, generation_id: UUID) -> list[ReadableSpan]:
    """The spans of one trace, in order of their ends."""
    return [each for each in spans.get_finished_spans() if each.context.trace_id == generation_id.int]


def names(spans: Spans, generation_id: UUID) -> dict[str, int]:
    """How many there are of each name."""
    found: dict[str, int] = {}
    for each in of(spans, generation_id):
        found[each.name] = found.get(each.name, 0) + 1
    return found


def told(span: ReadableSpan) -> dict[str, Any]:
    """The attributes without our prefix and the id, which all have."""
    attributes = {name.removeprefix("runware_provider."): value for name, value in (span.attributes or {}).items()}
    assert attributes.pop("generation_id") == str(UUID(int=span.context.trace_id))
    return attributes


async def at_rest(service: Service) -> None:
    """Wait until no task is left."""
    await eventually(lambda: idle(service.ctx.runtime))


async def test_everything_about_one_generation_is_one_trace(tmp_path: Path, spans: Spans) -> None:
    """From the request through dispatch, webhook, fetch and store to the read model, below one root."""
    async with a_service(tmp_path) as service:
        made = [await service.made(numberResults=2) for _ in range(2)]
        await at_rest(service)

    for state in made:
        found = names(spans, state.id)
        assert found.pop("project") >= 1
        assert found == {"create": 1, "dispatch": 1, "webhook": 2, "store_output": 2}
        [root] = [each for each in of(spans, state.id) if each.parent is None]
        others = [each for each in of(spans, state.id) if each is not root]
        assert root.name == "create"
        assert {each.parent.span_id for each in others if each.parent} == {root.context.span_id}
        assert len({each.context.span_id for each in others}) == len(others)
        assert told(root) == {"expected": 2, "dispatch": "accepted"}
        outcomes = {each.name: told(each) for each in others}
        assert outcomes["dispatch"] == {"attempt": 1, "starts": 0, "outcome": "accepted"}
        assert outcomes["webhook"] == {"status": 200}
        assert outcomes["project"] == {"starts": 0, "outcome": "projected"}
        stored = [told(each) for each in others if each.name == "store_output"]
        assert {each["output_id"]: each["size_bytes"] for each in stored} == {
            str(output.id): output.size_bytes for output in state.outputs if output.type == "success"
        }
        assert all(each.status.is_ok or each.status.is_unset for each in others)
    assert {each.context.trace_id for each in spans.get_finished_spans()} == {state.id.int for state in made}


async def test_questions_to_runware_are_in_the_trace_of_each_generation(tmp_path: Path, spans: Spans) -> None:
    """One body asks for many; each of them has its own span of it."""
    async with a_service(tmp_path, delivery="poll") as service:
        made = await asyncio.gather(*(service.made() for _ in range(3)))

    for state in made:
        asks = [each for each in of(spans, state.id) if each.name == "ask"]
        assert asks
        assert told(asks[-1]) == {"details": False, "answered": True}
        assert all(each.end_time >= each.start_time for each in asks if each.end_time and each.start_time)
        assert "webhook" not in names(spans, state.id)


async def test_runware_not_answering_is_in_the_trace_of_each_generation(tmp_path: Path, spans: Spans) -> None:
    """By the kind of failure; what it said is in the log."""
    async with a_service(tmp_path, {"on": "response", "do": "status", "status": 503}, delivery="poll") as service:
        state = await service.create()
        await eventually(lambda: "ask" in names(spans, state.id))

    ask = next(each for each in of(spans, state.id) if each.name == "ask")
    assert (ask.status.is_ok, told(ask)) == (False, {"details": False, "error.type": "RunwareUnavailable"})


async def test_the_clients_own_trace_is_linked(tmp_path: Path, spans: Spans) -> None:
    """Not joined: it is the client's, and one generation may be asked for twice."""
    headers = {"traceparent": CLIENT, "tracestate": "vendor=planted", "Idempotency-Key": "once"}
    async with a_service(tmp_path) as service:
        answers = [await service.post("/v1/generations", json={"input": an_input()}, headers=headers) for _ in range(2)]
        bare = await service.post("/v1/generations", json={"input": an_input()}, headers={"traceparent": "nonsense"})

    generation_id = UUID(answers[0].json["id"])
    first, again = (each for each in of(spans, generation_id) if each.name == "create")
    for span in (first, again):
        [link] = span.links
        assert (f"{link.context.trace_id:032x}", f"{link.context.span_id:016x}") == tuple(CLIENT.split("-")[1:3])
        assert not link.context.trace_state
    assert first.parent is None
    assert again.parent is not None
    assert again.parent.span_id == first.context.span_id
    assert [each.links for each in of(spans, UUID(bare.json["id"])) if each.name == "create"] == [()]


async def test_processes_that_never_met_write_into_one_trace(tmp_path: Path) -> None:
    """Days may lie between them: nothing but the id connects them."""
    with recording() as first:
        async with RawRunware(acknowledges) as runware, a_context(tmp_path, runware_url=runware.url) as ctx:
            state = await create_generation(ctx, some_args())
    with recording() as second:
        async with a_service(tmp_path, runware_url="http://127.0.0.1:9/v1") as service:
            await service.deliver(state.id, {"data": []})
            await get_generation_stub(service.ctx, state.id).tell("replay")
            await eventually(lambda: "project" in names(second, state.id))

    [root] = [each for each in of(first, state.id) if each.name == "create"]
    later = of(second, state.id)
    assert {"webhook", "project"} <= {each.name for each in later}
    assert {each.parent.span_id for each in later if each.parent} == {root.context.span_id}


async def test_what_failed_is_marked_by_its_code(tmp_path: Path, spans: Spans) -> None:
    """So that a query finds it: the status, and one word of few."""
    async with a_service(
        tmp_path,
        {"on": "dispatch", "do": "status", "status": 503, "nth": [1], "retry_after": 0},
        {"on": "cdn", "do": "html", "nth": [1]},
    ) as service:
        state = await service.made()
        refused = await service.create(width=100)
        await at_rest(service)

    failed = [(each.name, told(each)["error.type"]) for each in of(spans, state.id) if not each.status.is_unset]
    assert failed == [("dispatch", "refused_for_now"), ("store_output", "content_rejected")]
    [dispatch] = [each for each in of(spans, refused.id) if each.name == "dispatch"]
    assert told(dispatch)["error.type"] == "refused"


async def test_a_delivery_that_cannot_be_committed_is_marked(tmp_path: Path, spans: Spans) -> None:
    """Runware delivers it again; what went wrong here is seen in its trace."""
    async with a_service(tmp_path, runware_url="http://127.0.0.1:9/v1", work=False) as service:
        state = await born(service.ctx)
        with locked(tmp_path / "data" / "state.db"):
            await service.deliver(
                state.id, {"data": [{"taskUUID": str(state.task_uuid), "imageUUID": "a", "imageURL": "x"}]}
            )
        await service.deliver(state.id, {"data": []}, token="wrong")

    assert [told(each) for each in of(spans, state.id)] == [{"status": 503, "error.type": "503"}]


async def test_no_secret_and_no_prompt_is_in_a_trace(tmp_path: Path, spans: Spans) -> None:
    """Whatever fails: keys, tokens, addresses of images and webhooks, input and labels, and what exceptions say."""
    rules = (
        {"on": "dispatch", "do": "status", "status": 500, "body": "html", "accept": True, "nth": [1]},
        {"on": "result", "do": "url", "url": "http://169.254.169.254/{name}?token=planted-url", "nth": [1]},
        {"on": "result", "do": "url", "url": "http://127.0.0.1:9/{name}?token=planted-url", "nth": [2]},
        {"on": "cdn", "do": "status", "status": 404, "nth": [1]},
    )
    async with a_service(
        tmp_path,
        *rules,
        runware_api_key=SecretStr("planted-key"),
        webhook_secret=(SecretStr("planted-webhook-secret"),),
        client_tokens=(SecretStr("planted-client-token"),),
    ) as service:
        asked = {"input": an_input(positivePrompt="a planted prompt", numberResults=3), "metadata": {"a": "planted"}}
        headers = {"Authorization": "Bearer planted-client-token", "traceparent": CLIENT, "baggage": "a=planted"}
        answer = await service.post("/v1/generations?planted=1", json=asked, headers=headers)
        generation_id = UUID(answer.json["id"])
        await service.deliver(generation_id, b"planted")
        await service.deliver(uuid4(), b"planted")
        await eventually(lambda: names(spans, generation_id).get("store_output", 0) >= 3)
        token = service.ctx.tokens.token(generation_id)

    text = "".join(each.to_json() for each in spans.get_finished_spans())
    assert len(spans.get_finished_spans()) > 5
    assert [
        word for word in ("planted", token, "169.254", "127.0.0.1", "lighthouse", "Traceback") if word in text
    ] == []
    assert not [event for each in spans.get_finished_spans() for event in each.events]


async def test_a_token_is_kept_out_of_what_a_foreign_application_traces(tmp_path: Path) -> None:
    """Mounted in an application whose framework records each request with its whole address."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    async with a_context(tmp_path, work=False) as ctx:
        state = await born(ctx)
        app = FastAPI(telemetry={"tracer_provider": provider})
        app.router.routes.insert(0, webhook(ctx))
        async with (
            served(app) as url,
            aiohttp.ClientSession() as session,
            session.post(ctx.tokens.webhook_url(url, state.id), data=b"{}") as answer,
        ):
            assert answer.status == 200
        token = ctx.tokens.token(state.id)

    finished = exporter.get_finished_spans()
    assert [each.name for each in finished if each.parent is None] == ["POST /webhooks/runware"]
    assert token not in "".join(each.to_json() for each in finished)


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_share_of_generations_is_taken_whole(wrapped: bool) -> None:
    """By ratio, although the bits that a sampler looks at are hardly random in ids of one moment."""
    ids = [UUID(int=uuid7().int) for _ in range(1_000)]
    sampler: Sampler = TraceIdRatioBased(0.25)
    with recording(ParentBased(sampler) if wrapped else sampler) as spans:
        for each in ids:
            for name in ("create", "webhook", "project"):
                with tracing.span(name, each, first=name == "create"):
                    pass

    counts = [len(of(spans, each)) for each in ids]
    assert set(counts) == {0, 3}
    assert 150 < counts.count(3) < 350


def test_an_application_that_has_a_provider_gets_the_spans() -> None:
    """Its own, set for the whole process before the context is opened."""
    script = (
        "from uuid import UUID\n"
        "from opentelemetry import trace\n"
        "from opentelemetry.sdk.trace import TracerProvider\n"
        "from opentelemetry.sdk.trace.export import SimpleSpanProcessor\n"
        "from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter\n"
        "from runware_provider import tracing\n"
        "exporter, provider = InMemorySpanExporter(), TracerProvider()\n"
        "provider.add_span_processor(SimpleSpanProcessor(exporter))\n"
        "tracing.use_global()\n"
        "with tracing.span('nobody', UUID(int=1)): pass\n"
        "trace.set_tracer_provider(provider)\n"
        "tracing.use_global()\n"
        "with tracing.span('somebody', UUID(int=1)): pass\n"
        "with trace.get_tracer('theirs').start_as_current_span('theirs'): pass\n"
        "print([(each.name, each.context.trace_id == 1) for each in exporter.get_finished_spans()])\n"
    )
    assert run(script) == "[('somebody', True), ('theirs', False)]\n"


def test_without_opentelemetry_nothing_is_missed() -> None:
    """It is an extra: everything works, and what asks for traces is told what to install."""
    script = (
        "import sys; sys.modules['opentelemetry'] = None\n"
        "from uuid import UUID\n"
        "from runware_provider import tracing\n"
        "from runware_provider.exporting import exporting\n"
        "tracing.use_global(); tracing.hide_query()\n"
        "with exporting(), tracing.incoming('x'):\n"
        "  with tracing.span('a', UUID(int=1), first=True, linked=True) as noted:\n"
        "    noted.note(a=1); noted.failed('x')\n"
        "print('well')\n"
    )
    assert run(script, OTEL_TRACES_EXPORTER="otlp") == "well\n"


def run(script: str, **environ: str) -> str:
    """What Python prints for a script, in a process of its own."""
    command = [sys.executable, "-W", "error", "-c", script]
    return subprocess.run(command, env={**os.environ, **environ}, stdout=subprocess.PIPE, text=True, check=True).stdout


# In a process of our own


@contextmanager
def a_collector(*, stalls: bool = False) -> Iterator[tuple[str, list[bytes]]]:
    """Where it listens, and the bodies it got. `stalls`: it takes them, and does not answer."""
    over, taken = threading.Event(), list[bytes]()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            taken.append(self.rfile.read(int(self.headers["content-length"])))
            if stalls:
                over.wait(20)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", taken
    finally:
        over.set()
        server.shutdown()
        thread.join()
        server.server_close()


def test_spans_go_to_the_collector_that_the_environment_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the service's name, and to the last one: what is queued at the end is sent."""
    generation_id = uuid4()
    with a_collector() as (url, taken):
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
        with exporting(), tracing.span("create", generation_id, first=True):
            pass

    [body] = taken
    [of_resource] = ExportTraceServiceRequest.FromString(body).resource_spans
    resource = {each.key: each.value.string_value for each in of_resource.resource.attributes}
    [span] = of_resource.scope_spans[0].spans
    assert (resource["service.name"], resource["service.version"]) == ("runware-provider", version("runware-provider"))
    assert (span.name, span.trace_id) == ("create", generation_id.bytes)
    assert nobody_listens()


def test_the_operator_names_the_service(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the variable that everybody uses for it."""
    with a_collector() as (url, taken):
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", url)
        monkeypatch.setenv("OTEL_SERVICE_NAME", "images")
        with exporting(), tracing.span("create", uuid4()):
            pass

    assert b"images" in taken[0]


def test_a_collector_that_stalls_does_not_hold_up_a_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its share of the ten seconds is one."""
    with a_collector(stalls=True) as (url, taken):
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
        with exporting():
            with tracing.span("create", uuid4()):
                pass
            began = time.monotonic()
        took = time.monotonic() - began

    assert FLUSH <= took < FLUSH + 1
    assert len(taken) == 1


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_TRACES_EXPORTER": "none"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_SDK_DISABLED": "true"},
    ],
)
def test_who_asks_for_no_traces_gets_none(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, environ: dict[str, str]
) -> None:
    """And hears nothing of it."""
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    with exporting():
        assert nobody_listens()
    assert caplog.records == []


@pytest.mark.parametrize(
    ("environ", "missing", "remedy"),
    [
        ({"OTEL_TRACES_EXPORTER": "console"}, None, "otlp or none"),
        ({"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, None, "http/protobuf"),
        ({"OTEL_TRACES_EXPORTER": "otlp", "OTEL_BSP_MAX_QUEUE_SIZE": "1"}, None, "max_queue_size"),
        (
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"},
            "opentelemetry.exporter.otlp.proto.http.trace_exporter",
            "pip install 'runware-provider[otel]'",
        ),
    ],
)
def test_that_traces_cannot_be_sent_is_said_and_stops_nothing(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    environ: dict[str, str],
    missing: str | None,
    remedy: str,
) -> None:
    """Images are what this is for; the log says what to change."""
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    if missing is not None:
        monkeypatch.setitem(sys.modules, missing, None)
    with exporting():
        assert nobody_listens()

    [record] = [each for each in caplog.records if each.name == "runware_provider"]
    assert (record.message, record.levelno) == ("traces_not_sent", logging.WARNING)
    assert remedy in str(record.__dict__["reason"])


def test_a_header_that_cannot_be_read_is_not_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It holds the collector's key."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "a-planted-key")
    with caplog.at_level(logging.DEBUG), exporting():
        assert not nobody_listens()

    assert "a-planted-key" not in caplog.text


def nobody_listens() -> bool:
    """Whether a span is nothing, the same nothing each time."""
    return tracing.span("a", uuid4()) is tracing.span("b", uuid4(), first=True)
