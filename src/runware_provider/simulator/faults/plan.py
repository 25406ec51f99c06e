"""The fault plan: which wrongs are staged, when, and for whom.

A plan is plain JSON: `{"seed": 7, "rules": [{"on": "webhook", "do": "drop", "probability": 0.1}, ...]}`. `on` names the
place, `do` the wrong; the rest says how much, when and for whom. Unknown keys are refused.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from runware_provider.simulator.faults.api import AnswerFault, DispatchFault, ResultFault, RowFault, TaskFault
from runware_provider.simulator.faults.delivery import CdnFault, WebhookFault

Fault = DispatchFault | TaskFault | ResultFault | WebhookFault | AnswerFault | RowFault | CdnFault
_Do = Field(discriminator="do")
_AnyFault = Annotated[
    Annotated[DispatchFault, _Do]
    | Annotated[TaskFault, _Do]
    | Annotated[ResultFault, _Do]
    | Annotated[WebhookFault, _Do]
    | Annotated[AnswerFault | RowFault, _Do]
    | Annotated[CdnFault, _Do],
    Field(discriminator="on"),
]
MAX_RULES = 1000


class BadPlan(ValueError):
    """A fault plan that cannot be read; the message names each wrong key and says why."""


class FaultPlan(BaseModel):
    """Rules in the order in which they are tried, and the seed of their chance; no rules, no faults."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int = 0
    rules: tuple[_AnyFault, ...] = Field((), max_length=MAX_RULES)

    @classmethod
    def of(cls, *rules: Mapping[str, object], seed: int = 0) -> Self:
        """A plan of rules given as plain dictionaries. Raises `BadPlan`."""
        return cls.parse({"seed": seed, "rules": [dict(rule) for rule in rules]})

    @classmethod
    def parse(cls, plan: object) -> Self:
        """A plan from decoded JSON. Raises `BadPlan`."""
        try:
            return cls.model_validate(plan)
        except ValidationError as error:
            raise BadPlan(_told(error)) from None

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """A plan from a JSON file. Raises `BadPlan`, also when the file cannot be read or is not JSON."""
        try:
            return cls.parse(json.loads(Path(path).read_text("utf-8")))
        except OSError as error:
            raise BadPlan(f"{path}: {error.strerror or error}") from None
        except (UnicodeDecodeError, json.JSONDecodeError) as error:
            raise BadPlan(f"{path}: not JSON: {error}") from None
        except BadPlan as error:
            raise BadPlan(f"{path}: {error}") from None


def _told(error: ValidationError) -> str:
    """The mistakes in one line: which rule, what it is, which of its keys, and what is wrong with it."""
    told = []
    for issue in error.errors(include_url=False, include_context=False, include_input=False):
        path = [str(part) for part in issue["loc"]]
        where = ".".join(path) or "the plan"
        if path[:1] == ["rules"] and len(path) > 1 and path[1].isdigit():
            # The branches of the union are the rule's own `on` and `do`.
            kind = f" ({' '.join(path[2:4])})" if len(path) > 3 else ""
            where = f"rule {int(path[1]) + 1}{kind}" + "".join(f": {key}" for key in path[4:])
        told.append(f"{where}: {issue['msg']}")
    return "; ".join(told)
