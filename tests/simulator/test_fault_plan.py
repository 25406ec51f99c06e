"""The fault plan: what it accepts, what it says of mistakes, and that it is replayable."""

import json
from pathlib import Path
from typing import Any

import pytest

from runware_provider.simulator import BadPlan, FaultPlan
from runware_provider.simulator.faults import Staging, Subject

DROP = {"on": "webhook", "do": "drop"}


def _fired(plan: FaultPlan, subjects: list[Subject], on: str = "webhook", level: str = "row") -> list[bool]:
    staging = Staging(plan)
    return [bool(staging.firing(on, level, subject)) for subject in subjects]


def _tasks(count: int) -> list[Subject]:
    return [Subject(f"task-{number}", f"prompt {number}", f"image-{number}") for number in range(count)]


def test_without_conditions_a_rule_always_fires() -> None:
    assert _fired(FaultPlan.of(DROP), _tasks(3)) == [True, True, True]


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ({"first": 2}, [1, 1, 0, 0, 0]),
        ({"after": 3}, [0, 0, 0, 1, 1]),
        ({"nth": [2, 5]}, [0, 1, 0, 0, 1]),
        ({"after": 1, "first": 3}, [0, 1, 1, 0, 0]),
        ({"prompt": "prompt 3"}, [0, 0, 0, 1, 0]),
        ({"task_uuid": "task-1"}, [0, 1, 0, 0, 0]),
        ({"probability": 0}, [0, 0, 0, 0, 0]),
    ],
)
def test_conditions_are_counted_over_all_that_match(condition: dict[str, Any], expected: list[int]) -> None:
    assert _fired(FaultPlan.of(DROP | condition), _tasks(5)) == [bool(fires) for fires in expected]


def test_counts_are_kept_per_task_or_per_image() -> None:
    twice = [Subject("a", "", "1"), Subject("a", "", "2"), Subject("b", "", "3"), Subject("a", "", "1")]

    assert _fired(FaultPlan.of(DROP | {"first": 1, "per": "task"}), twice) == [True, False, True, False]
    assert _fired(FaultPlan.of(DROP | {"first": 1, "per": "image"}), twice) == [True, True, True, False]


def test_the_same_seed_gives_the_same_faults() -> None:
    chance = DROP | {"probability": 0.3}
    first, again = FaultPlan.of(chance, seed=7), FaultPlan.of(chance, seed=7)

    assert _fired(first, _tasks(200)) == _fired(again, _tasks(200))
    assert _fired(first, _tasks(200)) != _fired(FaultPlan.of(chance, seed=8), _tasks(200))
    assert 30 < sum(_fired(first, _tasks(200))) < 90


def test_faults_per_task_do_not_depend_on_the_order_of_tasks() -> None:
    """So a run with the same ids is replayed whatever the scheduler does."""
    plan = FaultPlan.of(DROP | {"probability": 0.5, "per": "task"})
    tasks = _tasks(50)

    forward = dict(zip([task.task_uuid for task in tasks], _fired(plan, tasks), strict=True))
    backward = dict(zip([task.task_uuid for task in tasks[::-1]], _fired(plan, tasks[::-1]), strict=True))

    assert forward == backward


def test_fired_rules_are_counted_and_a_new_plan_begins_anew() -> None:
    staging = Staging(FaultPlan.of(DROP | {"first": 2}, DROP | {"nth": [9]}))
    for subject in _tasks(5):
        staging.firing("webhook", "row", subject)
    assert staging.fired == [2, 0]

    staging.replace(FaultPlan.of(DROP))
    assert staging.fired == [0]
    staging.clear()
    assert staging.firing("webhook", "row", Subject("a")) == []


def test_counters_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runware_provider.simulator.faults.staging.MAX_COUNTED", 10)
    staging = Staging(FaultPlan.of(DROP | {"first": 1, "per": "task"}))
    for subject in _tasks(100):
        staging.firing("webhook", "row", subject)

    assert len(staging._seen[0]) == 10


@pytest.mark.parametrize(
    ("rule", "says"),
    [
        (
            {"on": "webhook", "do": "drop", "propability": 1},
            "rule 1 (webhook drop): propability: Extra inputs are not permitted",
        ),
        ({"on": "webhook", "do": "explode"}, "'explode'"),
        ({"on": "moon", "do": "drop"}, "'moon'"),
        ({"do": "drop"}, "'on'"),
        (
            {"on": "webhook", "do": "drop", "probability": 2},
            "rule 1 (webhook drop): probability: Input should be less than",
        ),
        ({"on": "dispatch", "do": "status", "status": 99}, "rule 1 (dispatch status): status"),
        ({"on": "dispatch", "do": "slow"}, "rule 1 (dispatch slow): seconds: Field required"),
        ({"on": "dispatch", "do": "slow", "seconds": -1}, "rule 1 (dispatch slow): seconds"),
        ({"on": "dispatch", "do": "slow", "seconds": 1, "per": "image"}, "per='image' is for"),
        ({"on": "webhook", "do": "malformed", "kind": "odd"}, "rule 1 (webhook malformed): kind"),
        ({"on": "search", "do": "processing"}, "rule 1 (search processing): on"),
        ("drop", "rule 1"),
    ],
)
def test_a_mistake_is_told_with_its_rule_and_key(rule: Any, says: str) -> None:
    with pytest.raises(BadPlan) as caught:
        FaultPlan.parse({"rules": [rule]})

    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("plan", [[], None, 3, {"seeds": 1}, {"rules": {}}, {"seed": "x"}])
def test_what_is_no_plan_is_refused(plan: Any) -> None:
    with pytest.raises(BadPlan):
        FaultPlan.parse(plan)


def test_the_number_of_rules_is_bounded() -> None:
    FaultPlan.of(*[DROP] * 1000)
    with pytest.raises(BadPlan):
        FaultPlan.of(*[DROP] * 1001)


def test_a_plan_is_read_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    path.write_text(json.dumps({"seed": 3, "rules": [DROP]}))

    assert FaultPlan.read(path) == FaultPlan.of(DROP, seed=3)


@pytest.mark.parametrize("content", ["{", "{}x", '{"rules": [{}]}'])
def test_a_file_that_holds_no_plan_is_named(tmp_path: Path, content: str) -> None:
    path = tmp_path / "plan.json"
    path.write_text(content)

    with pytest.raises(BadPlan, match=r"plan\.json"):
        FaultPlan.read(path)
    with pytest.raises(BadPlan, match="No such file"):
        FaultPlan.read(tmp_path / "none.json")
