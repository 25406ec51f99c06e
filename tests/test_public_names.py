"""What users may rely on."""

import subprocess
import sys
from importlib import import_module
from types import ModuleType

import runware_provider


def test_every_public_name_is_there_and_is_no_module() -> None:
    """Also after the rooms of the same names were imported."""
    import_module("runware_provider.reconcile")
    import_module("runware_provider.webhook")

    assert [name for name in runware_provider.__all__ if isinstance(getattr(runware_provider, name), ModuleType)] == []
    assert dir(runware_provider) == sorted(runware_provider.__all__)


def test_importing_the_package_costs_nothing() -> None:
    """A command that only prints its help, and everybody's pytest with our plugin, must not wait for a framework."""
    script = (
        "import sys, runware_provider, runware_provider.simulator.pytest_plugin; "
        "print([name for name in ('fastapi', 'sqlalchemy', 'aiohttp', 'alembic', 'pydantic') if name in sys.modules])"
    )
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout

    assert said == "[]\n"
