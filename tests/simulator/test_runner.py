"""Running the simulator: in a loop, until a signal, on a port that is free or not."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import aiohttp
import pytest
from pydantic import ValidationError

from runware_provider.simulator import Simulator, SimulatorOptions, create_app, parse_span, serve
from tests.simulator.simulator_harness import simulated


async def test_a_free_port_is_taken_and_given_back() -> None:
    async with Simulator() as simulator:
        assert simulator.url == f"{simulator.origin}/v1"
        port = int(simulator.origin.rsplit(":", 1)[1])

    with socket.create_server(("127.0.0.1", port)):
        pass


async def test_a_taken_port_is_an_os_error() -> None:
    async with Simulator() as simulator:
        port = int(simulator.origin.rsplit(":", 1)[1])
        with pytest.raises(OSError, match="in use"):
            async with Simulator(port=port):
                pass


async def test_a_simulator_that_does_not_run_says_so() -> None:
    with pytest.raises(RuntimeError, match="async with"):
        _ = Simulator().ledger


async def test_no_signal_handler_is_touched() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]

    async with Simulator():
        assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


async def test_it_stops_at_once_whatever_is_going_on(capfd: pytest.CaptureFixture[str]) -> None:
    """Tasks that run, answers that hang, bodies that stall, webhooks that are retried."""
    started = time.monotonic()
    async with simulated(webhook_retry_first=60.0, webhook_retry_cap=60.0) as api:
        [item] = await api.made()
        api.receiver.statuses = [500] * 99
        await api.post(api.hooked())
        await api.receiver.wait(1)
        api.stage({"on": "cdn", "do": "stall"}, {"on": "dispatch", "do": "hang", "nth": [1]})
        hanging = asyncio.create_task(api.post(api.task()))
        image = await api.session.get(item["imageURL"])
        api.stage({"on": "task", "do": "stuck"}, {"on": "cdn", "do": "slow", "seconds": 60})
        sync = asyncio.create_task(api.post(api.task()))
        slow = asyncio.create_task(api.session.get(item["imageURL"]))
        await asyncio.sleep(0.05)

        await api.simulator.__aexit__(None, None, None)

        results = await asyncio.gather(hanging, sync, slow, return_exceptions=True)
        image.close()
    assert isinstance(results[0], aiohttp.ClientError)
    assert isinstance(results[1], tuple | aiohttp.ClientError)
    assert isinstance(results[2], aiohttp.ClientError)
    assert time.monotonic() - started < 2
    assert capfd.readouterr() == ("", "")


async def test_serve_tells_when_it_is_ready_and_ends_when_cancelled() -> None:
    ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    serving = asyncio.create_task(serve(port=0, ready=lambda simulator: ready.set_result(simulator.url)))
    url = await asyncio.wait_for(ready, 5)

    async with aiohttp.ClientSession() as session, session.post(url, json=[]) as answer:
        assert answer.status == 400
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_serve_ends_cleanly_at_a_signal_and_prints_nothing(number: signal.Signals) -> None:
    code = (
        "import asyncio, sys\n"
        "from runware_provider.simulator import serve\n"
        "asyncio.run(serve(port=0, ready=lambda simulator: print('ready', flush=True)))"
    )
    with subprocess.Popen(
        [sys.executable, "-W", "error", "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=os.environ
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(number)
        out, err = process.communicate(timeout=10)

    assert (process.returncode, out, err) == (0, b"", b"")


async def test_serve_works_outside_the_main_thread() -> None:
    stopped = threading.Event()

    def run() -> None:
        async def briefly() -> None:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.1):
                    await serve(port=0)

        asyncio.run(briefly())
        stopped.set()

    threading.Thread(target=run).start()
    assert await asyncio.to_thread(stopped.wait, 5)


async def test_faults_of_the_connection_need_uvicorn() -> None:
    """Another ASGI server is told so, rather than given a half answer."""
    app = create_app(SimulatorOptions())
    app.faults.replace(type(app.faults.plan).of({"on": "dispatch", "do": "break"}))
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/v1",
        "headers": [(b"authorization", b"Bearer k")],
        "query_string": b"",
    }
    sent = []

    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": b'[{"taskType":"imageInference"}]'}

    async def send(message: object) -> None:
        sent.append(message)

    with pytest.raises(RuntimeError, match="uvicorn"):
        await app(scope, receive, send)
    await app.stop()


@pytest.mark.parametrize(("text", "span"), [("2", 2.0), ("0.5-2", (0.5, 2.0)), (" 0 ", 0.0)])
def test_spans_are_typed_as_numbers_or_ranges(text: str, span: object) -> None:
    assert parse_span(text) == span


@pytest.mark.parametrize("text", ["", "x", "1-2-3", "-1-2"])
def test_what_is_no_span_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parse_span(text)


@pytest.mark.parametrize(
    "wrong",
    [
        {"latency": (2, 1)},
        {"latency": -1},
        {"error_rate": 1.5},
        {"image_bytes": 10},
        {"remember": 0},
        {"public_url": "im.runware.ai"},
        {"public_url": "https://host/path"},
        {"latencey": 1},
    ],
)
def test_wrong_options_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        SimulatorOptions.model_validate(wrong)
