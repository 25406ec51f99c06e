"""A local Runware: its API, CDN and webhooks, as bad as the facts allow, with a ledger of what it billed.

`async with Simulator() as simulator:` serves it in the running loop; `serve()` serves it until a signal;
`create_app()` is the bare ASGI application. `FaultPlan` says which wrongs are staged. The pytest fixtures are in
`pytest_plugin`.
"""

from runware_provider.simulator.app import SimulatorApp, create_app
from runware_provider.simulator.faults import BadPlan, FaultPlan
from runware_provider.simulator.options import SimulatorOptions, parse_span
from runware_provider.simulator.runner import Simulator, serve

__all__ = ["BadPlan", "FaultPlan", "Simulator", "SimulatorApp", "SimulatorOptions", "create_app", "parse_span", "serve"]
