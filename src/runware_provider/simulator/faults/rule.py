"""What every rule of a fault plan has: when it fires and for whom."""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Level = Literal["body", "row"]
Seconds = Annotated[float, Field(ge=0, le=86_400, allow_inf_nan=False)]
Status = Annotated[int, Field(ge=200, le=599)]
Malformed = Literal["not_json", "empty", "not_utf8", "cut", "new_shape", "null", "number", "deep"]
Poison = Literal["nul", "lone_surrogate", "nan", "infinity", "huge_number", "deep"]


class Rule(BaseModel):
    """When a fault fires and for whom.

    Events are those that match `prompt` (a substring) and `task_uuid`. They are counted from 1, over everything or
    `per` task or image. A rule fires when the number is within `first`, past `after` and one of `nth` (whichever are
    given), and then with `probability`, decided by (plan seed, rule, number and what is counted per) alone.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    level: ClassVar[Level] = "body"
    counts_images: ClassVar[bool] = False

    probability: float = Field(1.0, ge=0, le=1)
    first: int | None = Field(None, ge=1)
    after: int | None = Field(None, ge=0)
    nth: tuple[Annotated[int, Field(ge=1)], ...] | None = Field(None, max_length=1000)
    per: Literal["all", "task", "image"] = "all"
    prompt: str | None = None
    task_uuid: str | None = None

    @model_validator(mode="after")
    def _images_are_counted_where_there_are_images(self) -> Self:
        if self.per == "image" and not self.counts_images:
            raise ValueError("per='image' is for result, webhook and cdn rules; use per='task'")
        return self
