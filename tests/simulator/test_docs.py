"""The reference page says what the code does: its tables are those that the code gives."""

import re
from pathlib import Path
from typing import get_args

import pytest

from runware_provider import simulator
from runware_provider.simulator import SimulatorOptions
from runware_provider.simulator.app import create_app
from runware_provider.simulator.faults.plan import Fault, FaultPlan
from runware_provider.simulator.faults.rule import Rule

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "simulator.md"
WHEN = set(Rule.model_fields)


def _text(value: object) -> str:
    return str(value).replace("|", "\\|").replace("\n", " ")


def _default(value: object) -> str:
    if isinstance(value, FaultPlan):
        return "no faults"
    return "" if value is None else f"`{_text(str(value).lower() if isinstance(value, bool) else value)}`"


def options_table() -> str:
    """One row for each field of the options."""
    rows = [
        f"| `{name}` | {_default(field.default)} | {_text(field.description)} |"
        for name, field in SimulatorOptions.model_fields.items()
    ]
    return "\n".join(["| option | default | what it is |", "| --- | --- | --- |", *rows])


def faults_table(place: str) -> str:
    """One row for each wrong that can be staged at a place."""
    rows = []
    for rule in get_args(Fault):
        if place not in get_args(rule.model_fields["on"].annotation):
            continue
        [do] = get_args(rule.model_fields["do"].annotation)
        keys = [
            f"`{name}`"
            + (f" = {_default(field.default)}" if not field.is_required() and field.default is not None else "")
            for name, field in rule.model_fields.items()
            if name not in WHEN | {"on", "do"}
        ]
        rows.append(f"| `{do}` | {', '.join(keys)} | {_text(rule.__doc__).split('  ')[0]} |")
    return "\n".join(["| `do` | keys | what happens |", "| --- | --- | --- |", *rows])


def test_the_options_are_those_of_the_code() -> None:
    assert options_table() in PAGE.read_text("utf-8")


@pytest.mark.parametrize("place", ["dispatch", "task", "result", "webhook", "response", "details", "search", "cdn"])
def test_the_faults_are_those_of_the_code(place: str) -> None:
    assert faults_table(place) in PAGE.read_text("utf-8")


def test_every_condition_is_explained() -> None:
    page = PAGE.read_text("utf-8")

    assert all(f"| `{name}` |" in page for name in WHEN)


def test_every_public_name_is_on_the_page() -> None:
    page = PAGE.read_text("utf-8")

    assert [name for name in simulator.__all__ if f"`{name}" not in page] == []


async def test_every_route_is_on_the_page() -> None:
    page = PAGE.read_text("utf-8")
    app = create_app()
    for route in app._app.routes:
        path = re.sub(r"\{(\w+)(:\w+)?\}", r"<\1>", getattr(route, "path", ""))
        for method in getattr(route, "methods", set()) - {"HEAD"}:
            assert f"`{method} {path}`" in page
    await app.stop()


def test_the_example_plan_is_one() -> None:
    [plan] = re.findall(r"```json\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)

    assert len(FaultPlan.model_validate_json(plan).rules) >= 4
