"""Search in Runware's model catalogue. Stands alone: knows nothing of generations."""

from typing import Any, Literal, Protocol
from uuid import UUID, uuid4

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from runware_provider.errors import RunwareUnavailable
from runware_provider.types import JsonObject


class Caller(Protocol):
    """Who can put a task to Runware."""

    async def call(self, tasks: list[JsonObject]) -> list[Any]:
        """Send tasks and return their rows."""


class HasRunware(Protocol):
    """A context, as far as a search needs one."""

    @property
    def runware(self) -> Caller:
        """The API to ask. Raises ConfigurationError when there is no key."""


class SearchModelsArgs(BaseModel):
    """Runware's own filters, by its own names. Only what is set is sent."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    search: str | None = Field(None, max_length=256, description="Words from the model's name, version or tags.")
    source: str | None = Field(None, max_length=64)
    category: str | None = Field(None, max_length=64, description="checkpoint, lora, lycoris, vae or embeddings.")
    type: str | None = Field(None, max_length=64)
    architecture: str | None = Field(None, max_length=64)
    conditioning: str | None = Field(None, max_length=64)
    tags: list[str] | None = Field(None, max_length=32)
    capabilities: list[str] | None = Field(None, max_length=32)
    visibility: Literal["public", "private", "favorite", "owned", "all"] | None = None
    sort: str | None = Field(None, max_length=64)
    limit: int = Field(20, ge=1, le=100)
    offset: int = Field(0, ge=0, le=1_000_000)


class Model(BaseModel):
    """One model as Runware describes it; `air` is what `model` takes. Fields that we do not know are kept."""

    model_config = ConfigDict(frozen=True, extra="allow")

    air: str
    name: str | None = None
    version: str | None = None
    category: str | None = None
    architecture: str | None = None
    type: str | None = None
    tags: list[str] | None = None
    heroImage: str | None = None  # noqa: N815  Runware's name
    private: bool | None = None
    comment: str | None = None
    defaultWidth: int | None = None  # noqa: N815
    defaultHeight: int | None = None  # noqa: N815


class ModelPage(BaseModel):
    """One page of the catalogue. The next one begins at `offset + len(results)`."""

    model_config = ConfigDict(frozen=True)

    total_results: int
    offset: int
    results: list[Model]


async def search_models(ctx: HasRunware, args: SearchModelsArgs) -> ModelPage:
    """One page of models. Raises RunwareUnavailable (try again) and RunwareRefused."""
    task_uuid: UUID = uuid4()
    task = {
        "taskType": "modelSearch",
        "taskUUID": str(task_uuid),
        **args.model_dump(exclude_none=True, exclude_unset=True),
    }
    rows = await ctx.runware.call([task])
    row = next((row for row in rows if isinstance(row, dict) and isinstance(row.get("results"), list)), None)
    if row is None:
        raise RunwareUnavailable("Runware answered a model search without results")
    total = row.get("totalResults")
    models = [model for model in map(_read, row["results"]) if model is not None]
    return ModelPage(
        total_results=total if isinstance(total, int) else args.offset + len(models), offset=args.offset, results=models
    )


def _read(row: Any) -> Model | None:
    """One row of the catalogue, without fields that are not what they should be; None for what cannot be used."""
    try:
        return Model.model_validate(row)
    except ValidationError as error:
        wrong = {issue["loc"][0] for issue in error.errors() if issue["loc"]}
        if not isinstance(row, dict) or "air" in wrong:
            return None
        return Model.model_validate({name: value for name, value in row.items() if name not in wrong})
