"""What is still known of a generation that state has let go of (`RETENTION`): the read model and the images stay."""

from collections.abc import Sequence
from contextlib import suppress

from runware_provider.context import Context
from runware_provider.errors import ConfigurationError, GenerationNotFound, OutputNotFound, ProjectionUnavailable
from runware_provider.generation import Generation
from runware_provider.types import (
    ArtifactSummary,
    ErrorOutput,
    GenerationArgs,
    GenerationSummary,
    Output,
    OutputArgs,
    SuccessOutput,
)


async def get_remembered(ctx: Context, args: GenerationArgs) -> GenerationSummary:
    """What the read model has of a generation that state has not.

    Raises GenerationNotFound, also for what was deleted, and while the read model cannot be asked.
    """
    missing = GenerationNotFound(f"there is no generation {args.generation_id}")
    try:
        await ctx.runtime.look(args.generation_id, lambda _: None)
    except GenerationNotFound:
        with suppress(ProjectionUnavailable, ConfigurationError):
            summary = await ctx.projection.get(args.generation_id)
            if summary is not None:
                return summary
        raise missing from None
    raise missing  # state has it, as deleted: the read model may not know of that yet


async def get_image(ctx: Context, args: OutputArgs) -> SuccessOutput | ArtifactSummary | None:
    """A stored image, as state knows it or else the read model; None for an output that is no image.

    Raises GenerationNotFound, OutputNotFound.
    """
    one = GenerationArgs(generation_id=args.generation_id)
    known: Sequence[Output | ArtifactSummary] | None = None
    with suppress(GenerationNotFound):
        known = await ctx.runtime.look(args.generation_id, _outputs)
    if known is None:
        known = (await get_remembered(ctx, one)).artifacts
    for output in known:
        if output.id == args.output_id:
            return None if isinstance(output, ErrorOutput) else output
    raise OutputNotFound(f"generation {args.generation_id} has no output {args.output_id}")


def _outputs(generation: Generation) -> Sequence[Output] | None:
    return generation.outputs() if generation.register.deleted_at is None else None
