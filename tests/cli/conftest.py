"""The command in this process: what it prints, its exit code, and an environment of its own."""

import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from runware_provider.cli.app import run
from runware_provider.simulator import SimulatorOptions
from runware_provider.simulator.pytest_plugin import (
    ThreadedSimulator,
    runware_simulator,
    runware_simulator_factory,
)
from tests.e2e.processes import Finished

__all__ = ["runware_simulator", "runware_simulator_factory"]

Command = Callable[..., Finished]


@pytest.fixture
def runware_simulator_options() -> SimulatorOptions:
    """No latency; keys that begin with `wrong` are refused, as by default."""
    return SimulatorOptions(latency=0.0, result_spread=0.0, webhook_latency=0.0, webhook_retry_first=0.05)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with nothing of the developer's environment in reach."""
    for name in list(os.environ):
        if name.startswith("RUNWARE"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("TZ", "UTC")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def command(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Command]:
    """Run one command line; `settings` stand in its environment. It never shows a traceback."""
    root = logging.getLogger()
    before = root.handlers, root.level

    def call(*arguments: str, **settings: str) -> Finished:
        with monkeypatch.context() as patch:
            for name, value in settings.items():
                patch.setenv(name, value)
            capsys.readouterr()
            code = run(list(arguments))
            said = capsys.readouterr()
        assert "Traceback" not in said.err
        return Finished(code, said.out, said.err)

    yield call
    root.handlers, root.level = before


@pytest.fixture
def simulated(command: Command, runware_simulator: ThreadedSimulator) -> Command:
    """The command with a simulated Runware to speak to."""

    def call(*arguments: str, **settings: str) -> Finished:
        defaults = {
            "RUNWARE_API_KEY": "simulated",
            "RUNWARE_PROVIDER_RUNWARE_URL": runware_simulator.url,
            "RUNWARE_PROVIDER_IMAGE_HOSTS": "127.0.0.1",
        }
        return command(*arguments, **{**defaults, **settings})

    return call
