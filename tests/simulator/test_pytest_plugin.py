"""The pytest plugin: a simulated Runware for the tests of any application."""

import json
import urllib.request
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import aiohttp
import pytest

from runware_provider.simulator import BadPlan, SimulatorOptions
from runware_provider.simulator.pytest_plugin import ThreadedSimulator

Factory = Callable[[SimulatorOptions | None], ThreadedSimulator]


def _ask(url: str, *, key: str = "a-key") -> tuple[int, Any]:
    """One sync task, sent as a blocking application would."""
    task = {
        "taskType": "imageInference",
        "taskUUID": str(uuid4()),
        "positivePrompt": "a quiet lake",
        "model": "runware:101@1",
        "width": 128,
        "height": 128,
    }
    request = urllib.request.Request(  # noqa: S310 - the simulator's own URL, as in the rest of this file
        url,
        json.dumps([task]).encode(),
        {"Authorization": f"Bearer {key}", "Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def test_a_blocking_test_uses_it(runware_simulator: ThreadedSimulator) -> None:
    status, body = _ask(runware_simulator.url)

    assert status == 200
    [item] = body["data"]
    entry = runware_simulator.ledger.entry(item["taskUUID"])
    assert entry is not None
    assert entry.billed == 1
    with urllib.request.urlopen(item["imageURL"], timeout=10) as image:  # noqa: S310
        assert image.headers["Content-Type"] == "image/jpeg"


async def test_an_async_test_uses_it(runware_simulator: ThreadedSimulator) -> None:
    async with aiohttp.ClientSession() as session, session.get(runware_simulator.origin + "/_simulator/stats") as got:
        assert (await got.json())["billed"] == 0


def test_faults_are_staged_at_once(runware_simulator: ThreadedSimulator) -> None:
    runware_simulator.stage({"on": "dispatch", "do": "status", "status": 503, "first": 1})

    assert [_ask(runware_simulator.url)[0], _ask(runware_simulator.url)[0]] == [503, 200]
    assert runware_simulator.faults.fired == [1]
    with pytest.raises(BadPlan):
        runware_simulator.stage({"on": "nowhere"})


def test_the_factory_starts_several_with_options_of_their_own(runware_simulator_factory: Factory) -> None:
    strict = runware_simulator_factory(SimulatorOptions(api_keys=frozenset({"good"}), latency=0.0))
    plain = runware_simulator_factory(None)

    assert strict.url != plain.url
    assert (_ask(strict.url)[0], _ask(strict.url, key="good")[0], _ask(plain.url)[0]) == (401, 200, 200)


class TestOverriddenOptions:
    """A module or class can change what `runware_simulator` is like."""

    @pytest.fixture
    def runware_simulator_options(self) -> SimulatorOptions:
        return SimulatorOptions(latency=0.0, error_rate=1.0)

    def test_they_are_used(self, runware_simulator: ThreadedSimulator) -> None:
        assert _ask(runware_simulator.url)[1]["errors"][0]["code"] == "inferenceError"


def test_a_taken_port_raises_and_leaves_no_thread(runware_simulator: ThreadedSimulator) -> None:
    port = int(runware_simulator.origin.rsplit(":", 1)[1])

    with pytest.raises(OSError, match="in use"), ThreadedSimulator(port=port):
        pass
