"""`serve` and `simulate`: processes that run until they are told to stop."""

import logging
from pathlib import Path
from typing import Any

from runware_provider.cli.render import out
from runware_provider.context import Context
from runware_provider.errors import ConfigurationError
from runware_provider.logs import configure
from runware_provider.serving import bind, serving, tune, until_stopped
from runware_provider.settings import Settings, is_loopback


async def serve(settings: Settings, host: str, port: int, takeover_wait: float) -> None:
    """The service, until SIGTERM or SIGINT."""
    if settings.runware_api_key is None:
        raise ConfigurationError("RUNWARE_API_KEY is not set: get a key from Runware and export it")
    if not settings.client_tokens and not is_loopback(host):
        raise ConfigurationError(
            f"without RUNWARE_PROVIDER_CLIENT_TOKENS the service listens on loopback only, not on {host}: "
            "set a token, or leave --host out"
        )
    configure(logging.INFO)
    tune()
    with bind(host, port) as listener:
        async with Context.open(settings, takeover_wait=takeover_wait) as ctx, serving(ctx, listener):
            shown = listener.getsockname()[1]
            out.print(f"runware-provider listens on http://{host}:{shown}")
            if not settings.client_tokens:
                out.print("no RUNWARE_PROVIDER_CLIENT_TOKENS: open to everyone on this machine, closed to all others")
            if settings.delivery_mode == "poll":
                out.print("no RUNWARE_PROVIDER_PUBLIC_URL: Runware is asked for results instead of delivering them")
            out.file.flush()
            await until_stopped()
            out.print("stopping; what is unfinished goes on at the next start")
            out.file.flush()


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
        out.print(f"the simulated Runware listens on {simulator.url}")
        out.print("a service uses it with")
        for name, value in simulated(simulator.url, host).items():
            out.print(f"  export {name}={value}")
        out.file.flush()

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
