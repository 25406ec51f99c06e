"""pytest fixtures: a simulated Runware for the tests of any application, in sync and async tests alike.

`runware_simulator` is one that runs for the test; `runware_simulator_factory` starts as many as are asked for, each
with its own options. They run in a thread with a loop of their own, so a test may block. To change the options of
`runware_simulator`, override the fixture `runware_simulator_options`.
"""

import asyncio
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Self

import pytest

if TYPE_CHECKING:
    from runware_provider.simulator.faults import FaultPlan, Staging
    from runware_provider.simulator.ledger import Ledger
    from runware_provider.simulator.options import SimulatorOptions

__all__ = [
    "ThreadedSimulator",
    "runware_simulator",
    "runware_simulator_factory",
    "runware_simulator_options",
]


class ThreadedSimulator:
    """A simulator in a thread of its own: `with ThreadedSimulator() as simulator: ...`."""

    def __init__(self, options: "SimulatorOptions | None" = None, *, host: str = "127.0.0.1", port: int = 0) -> None:
        # Imported here, so that a plugin that pytest always loads costs a session nothing until it is used.
        from runware_provider.simulator.runner import Simulator

        self._simulator = Simulator(options, host=host, port=port)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="runware-simulator", daemon=True)

    @property
    def url(self) -> str:
        """The API's URL, as `RUNWARE_URL` wants it."""
        return self._simulator.url

    @property
    def origin(self) -> str:
        """`http://HOST:PORT`, where the CDN and `/_simulator` are."""
        return self._simulator.origin

    @property
    def ledger(self) -> "Ledger":
        """What was asked, billed and delivered so far."""
        return self._simulator.ledger

    @property
    def faults(self) -> "Staging":
        """The plan in force."""
        return self._simulator.faults

    def stage(self, *rules: "Mapping[str, object]", seed: int = 0) -> "FaultPlan":
        """Put a plan of these rules in force: `stage({"on": "webhook", "do": "drop"})`. Raises `BadPlan`."""
        from runware_provider.simulator.faults import FaultPlan

        plan = FaultPlan.of(*rules, seed=seed)
        self._loop.call_soon_threadsafe(self.faults.replace, plan)
        # Whoever stages a fault and then asks must meet it.
        asyncio.run_coroutine_threadsafe(asyncio.sleep(0), self._loop).result()
        return plan

    def __enter__(self) -> Self:
        self._thread.start()
        try:
            asyncio.run_coroutine_threadsafe(self._simulator.__aenter__(), self._loop).result()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            asyncio.run_coroutine_threadsafe(self._simulator.__aexit__(None, None, None), self._loop).result()
        finally:
            self._end()

    def _end(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


@pytest.fixture
def runware_simulator_options() -> "SimulatorOptions":
    """The options of `runware_simulator`: no latency, short pauses between retries. Override to change them."""
    from runware_provider.simulator.options import SimulatorOptions

    return SimulatorOptions(latency=0.0, result_spread=0.0, webhook_latency=0.0, webhook_retry_first=0.05)


@pytest.fixture
def runware_simulator_factory() -> "Iterator[Callable[[SimulatorOptions | None], ThreadedSimulator]]":
    """Starts simulators that stop with the test: `runware_simulator_factory(SimulatorOptions(error_rate=0.1))`."""
    with ExitStack() as running:

        def start(options: "SimulatorOptions | None" = None) -> ThreadedSimulator:
            return running.enter_context(ThreadedSimulator(options))

        yield start


@pytest.fixture
def runware_simulator(
    runware_simulator_factory: "Callable[[SimulatorOptions | None], ThreadedSimulator]",
    runware_simulator_options: "SimulatorOptions",
) -> ThreadedSimulator:
    """A simulated Runware for this test: `url`, `origin`, `ledger`, `faults`, `stage()`."""
    return runware_simulator_factory(runware_simulator_options)
