"""`serve`, `worker` and `simulate`: processes that run until they are told to stop."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from runware_provider.cli.console import out, say
from runware_provider.context import Context
from runware_provider.errors import ConfigurationError
from runware_provider.exporting import exporting
from runware_provider.logs import configure
from runware_provider.serving import bind, serving, until_stopped
from runware_provider.settings import Settings, is_loopback
from runware_provider.tuning import answer_soon, tune


async def serve(settings: Settings, host: str, port: int, takeover_wait: float, *, work: bool) -> None:
    """The service, until SIGTERM or SIGINT. Without `work` it leaves all tasks to others."""
    if not work:
        _require_many_nodes(settings, "--no-worker")
    async with _running(settings, host, port, work=work, takeover_wait=takeover_wait) as address:
        say(out, f"runware-provider listens on {address}")
        if not settings.client_tokens:
            say(out, "no RUNWARE_PROVIDER_CLIENT_TOKENS: open to everyone on this machine, closed to all others")
        if settings.delivery_mode == "poll":
            say(out, "no RUNWARE_PROVIDER_PUBLIC_URL: Runware is asked for results instead of delivering them")
        await until_stopped()
        say(out, "stopping; what is unfinished goes on at the next start")


async def worker(settings: Settings, host: str, port: int) -> None:
    """Only the tasks, with health and metrics beside them, until SIGTERM or SIGINT."""
    _require_many_nodes(settings, "worker")
    async with _running(settings, host, port, health_only=True) as address:
        say(out, f"runware-provider works; its health listens on {address}")
        await until_stopped()
        say(out, "stopping; others go on with what is unfinished")


@asynccontextmanager
async def _running(
    settings: Settings,
    host: str,
    port: int,
    *,
    work: bool = True,
    takeover_wait: float = 0.0,
    health_only: bool = False,
) -> AsyncIterator[str]:
    """A process of a service until the block ends; where it listens. Raises ConfigurationError."""
    if settings.runware_api_key is None:
        raise ConfigurationError("RUNWARE_API_KEY is not set: get a key from Runware and export it")
    if not settings.client_tokens and not is_loopback(host):
        raise ConfigurationError(
            f"without RUNWARE_PROVIDER_CLIENT_TOKENS the service listens on loopback only, not on {host}: "
            "set a token, or leave --host out"
        )
    configure(logging.INFO)
    tune()
    answer_soon()
    with exporting(), bind(host, port) as listener:
        async with (
            Context.open(settings, work=work, apart=work, takeover_wait=takeover_wait) as ctx,
            serving(ctx, listener, health_only=health_only),
        ):
            yield f"http://{f'[{host}]' if ':' in host else host}:{listener.getsockname()[1]}"


def _require_many_nodes(settings: Settings, what: str) -> None:
    if not settings.many_nodes:
        raise ConfigurationError(
            f"{what} needs RUNWARE_PROVIDER_STATE_URL=postgresql://USER:PASSWORD@HOST/DATABASE: a state file belongs "
            "to one process, which does everything"
        )


async def simulate(host: str, port: int, latency: str, faults: Path | None, options: dict[str, Any]) -> int:
    """The simulator, until SIGTERM or SIGINT."""
    from pydantic import ValidationError

    from runware_provider.simulator import BadPlan, FaultPlan, Simulator, SimulatorOptions, parse_span
    from runware_provider.simulator import serve as run

    try:
        plan = FaultPlan.read(faults) if faults else FaultPlan()
        given = {name: value for name, value in options.items() if value is not None}
        made = SimulatorOptions(latency=parse_span(latency), faults=plan, **given)
    except BadPlan as error:
        raise ConfigurationError(f"--faults: {error}") from error
    except ValidationError as error:
        raise ConfigurationError("; ".join(_issue(issue["loc"], issue["msg"]) for issue in error.errors())) from error
    except ValueError as error:
        raise ConfigurationError(_LATENCY.format(latency)) from error

    def ready(simulator: Simulator) -> None:
        say(out, f"the simulated Runware listens on {simulator.url}")
        say(out, "a service uses it with")
        for name, value in simulated(simulator.url, host).items():
            say(out, f"  export {name}={value}")

    try:
        await run(made, host, port, ready=ready)
    except OSError as error:
        raise ConfigurationError(f"cannot listen on {host}:{port}: {error.strerror}. Give another --port") from error
    return 0


_LATENCY = "--latency: must be seconds such as 2, or a span such as 0.5-2, not {!r}"


def _issue(location: tuple[int | str, ...], message: str) -> str:
    name = str(location[0]).replace("_", "-")
    return f"--{name}: {message.removeprefix('Value error, ')}"


def simulated(url: str, host: str) -> dict[str, str]:
    """The settings with which a service uses a simulator."""
    return {
        "RUNWARE_API_KEY": "simulated",
        "RUNWARE_PROVIDER_RUNWARE_URL": url,
        "RUNWARE_PROVIDER_IMAGE_HOSTS": host,
    }
