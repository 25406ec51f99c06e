"""Ask for the same again: with the same seeds, or with new ones. A new generation, which costs what the first did."""

from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from pydantic import Field

from runware_provider.context import Context
from runware_provider.create import create_generation, get_generation
from runware_provider.errors import OutputNotFound, SeedsUnknown
from runware_provider.types import CreateArgs, GenerationArgs, GenerationState, JsonObject, SuccessOutput

RERUN_OF = "rerun_of"
"""The label by which the new generation names the first; left out when the labels are full."""

MAX_LABELS = 32


class RerunArgs(GenerationArgs):
    """The generation's input once more. `output_id`: only this image, with its own seed."""

    remix: bool = Field(default=False, description="New seeds instead of the same.")
    output_id: UUID | None = Field(None, description="Only this image of it.")
    idempotency_key: str | None = Field(None, min_length=1, max_length=255)


async def rerun_generation(ctx: Context, args: RerunArgs, *, wait: timedelta | None = None) -> GenerationState:
    """Create a generation with the input of another. Costs money. `wait`: as `create_generation` has it.

    Without `remix` the seeds are those that the images of the first one had, whether they were asked for or not. The
    labels are the same, and `rerun_of` names the first. Raises GenerationNotFound, OutputNotFound, SeedsUnknown when
    there is no seed that would give the same, and what `create_generation` raises.
    """
    state = await get_generation(ctx, GenerationArgs(generation_id=args.generation_id))
    labels = state.metadata | {RERUN_OF: str(state.id)}
    again = CreateArgs(
        input=_input(state, args),
        metadata=labels if len(labels) <= MAX_LABELS else state.metadata,
        idempotency_key=args.idempotency_key,
    )
    return await create_generation(ctx, again, wait=wait)


def _input(state: GenerationState, args: RerunArgs) -> JsonObject:
    images = [output for output in state.outputs if isinstance(output, SuccessOutput)]
    again = dict(state.input)
    if args.output_id is not None:
        images = [image for image in images if image.id == args.output_id]
        if not images:
            raise OutputNotFound(f"generation {state.id} has no image {args.output_id}")
        again["numberResults"] = 1
    if args.remix:
        again.pop("seed", None)
    elif args.output_id is not None or "seed" not in again:
        again["seed"] = _first_seed(images)
    return again


def _first_seed(images: Sequence[SuccessOutput]) -> int:
    """From which the seeds of `images` follow: Runware counts up from the first, whether it was given or drawn."""
    seeds = sorted(image.seed for image in images if image.seed is not None)
    if not seeds or len(seeds) < len(images) or seeds != list(range(seeds[0], seeds[0] + len(seeds))):
        raise SeedsUnknown(
            "the seeds of its images are not known (yet), or no run that counts up: ask for new ones with `remix`, or "
            "for a single image with `output_id`"
        )
    return seeds[0]
