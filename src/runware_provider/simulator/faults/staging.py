"""Staging: which rules of the plan fire for an event, decided by the plan's seed alone."""

from collections import Counter, OrderedDict
from dataclasses import dataclass
from typing import TypeVar

from runware_provider.simulator.chance import fraction
from runware_provider.simulator.faults.plan import Fault, FaultPlan
from runware_provider.simulator.faults.rule import Rule

F = TypeVar("F", bound=Rule)
MAX_COUNTED = 100_000


@dataclass(frozen=True, slots=True)
class Subject:
    """Whom an event is about; what is not known is empty and matches no rule that asks for it."""

    task_uuid: str = ""
    prompt: str = ""
    image_uuid: str = ""


class Staging:
    """The plan at work. `per` counters are kept for the last 100,000 tasks or images of each rule."""

    def __init__(self, plan: FaultPlan, always: tuple[Fault, ...] = ()) -> None:
        """`always` are rules beside the plan (the rates of the options); they stay when the plan is replaced."""
        self._always = always
        self.replace(plan)

    @property
    def plan(self) -> FaultPlan:
        """The plan in force."""
        return self._plan

    @property
    def fired(self) -> list[int]:
        """How often each rule of the plan has fired, in the plan's order."""
        return [self._fired[index] for index in range(len(self._plan.rules))]

    def replace(self, plan: FaultPlan) -> None:
        """Put `plan` in force and begin all counts anew."""
        self._plan = plan
        self._fired: Counter[int] = Counter()
        self._seen: dict[int, OrderedDict[str, int]] = {}
        self._rules: dict[tuple[str, str], list[tuple[int, Fault]]] = {}
        for index, rule in enumerate((*plan.rules, *self._always)):
            self._rules.setdefault((rule.on, rule.level), []).append((index, rule))

    def clear(self) -> None:
        """Stage nothing more."""
        self.replace(FaultPlan())

    def firing(self, on: str, level: str, subject: Subject) -> list[Fault]:
        """The rules that fire for one event at `on`, in the plan's order. Counts the event."""
        rules = self._rules.get((on, level))
        if not rules:
            return []
        return [rule for index, rule in rules if self._fires(index, rule, subject)]

    def _fires(self, index: int, rule: Rule, subject: Subject) -> bool:
        if rule.prompt is not None and rule.prompt not in subject.prompt:
            return False
        if rule.task_uuid is not None and rule.task_uuid != subject.task_uuid:
            return False
        key = {"all": "", "task": subject.task_uuid, "image": subject.image_uuid}[rule.per]
        number = self._count(index, key)
        if rule.first is not None and number > rule.first:
            return False
        if rule.after is not None and number <= rule.after:
            return False
        if rule.nth is not None and number not in rule.nth:
            return False
        if rule.probability < 1 and fraction(self._plan.seed, index, key, number) >= rule.probability:
            return False
        self._fired[index] += 1
        return True

    def _count(self, index: int, key: str) -> int:
        seen = self._seen.setdefault(index, OrderedDict())
        number = seen.pop(key, 0) + 1
        seen[key] = number
        if len(seen) > MAX_COUNTED:
            seen.popitem(last=False)
        return number


def first_of(kind: type[F], faults: list[Fault]) -> F | None:
    """The first fault of a kind."""
    for fault in faults:
        if isinstance(fault, kind):
            return fault
    return None
