"""A local Runware: its API, CDN and webhooks, as bad as the facts allow, with a ledger of what it billed.

`async with Simulator() as simulator:` serves it in the running loop; `serve()` serves it until a signal;
`create_app()` is the bare ASGI application. `FaultPlan` says which wrongs are staged. The pytest fixtures are in
`pytest_plugin`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from runware_provider.simulator.app import SimulatorApp, create_app
    from runware_provider.simulator.faults import BadPlan, FaultPlan
    from runware_provider.simulator.options import SimulatorOptions, parse_span
    from runware_provider.simulator.runner import Simulator, serve

# Loaded when they are first used: everybody's pytest imports this package for its plugin, and few use it.
_MODULES = {
    "BadPlan": "faults",
    "FaultPlan": "faults",
    "Simulator": "runner",
    "SimulatorApp": "app",
    "SimulatorOptions": "options",
    "create_app": "app",
    "parse_span": "options",
    "serve": "runner",
}

__all__ = ["BadPlan", "FaultPlan", "Simulator", "SimulatorApp", "SimulatorOptions", "create_app", "parse_span", "serve"]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value
