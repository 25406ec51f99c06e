"""What pages show of a generation: tiles, one for each image that there is or will be."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from runware_provider.types import (
    ArtifactSummary,
    ErrorOutput,
    GenerationState,
    GenerationSummary,
    Output,
    Status,
    SuccessOutput,
    wire_time,
)
from runware_provider.words import SHORT

RATIOS = tuple(round(number * 0.05, 2) for number in range(6, 81))
"""Proportions that tiles come in, width to height: 0.30 to 4.00. The style sheet has a class for each."""

MOST_TILES = 64
"""Of one generation, on the grid."""

STEPS = ("sent", "accepted", "delivered", "stored", "in the database")
"""What an image passes, in order."""


@dataclass(frozen=True, slots=True)
class Tile:
    """One place in the grid. `passed`: how many of `STEPS`; `note`: what is being waited for, or went wrong."""

    kind: Literal["image", "pending", "failed"]
    ratio: float
    output_id: UUID | None = None
    width: int = 0
    height: int = 0
    passed: int = 0
    note: str = ""

    @property
    def shape(self) -> str:
        """The class of its proportions."""
        return f"r{round(self.ratio * 100):03d}"


@dataclass(frozen=True, slots=True)
class Card:
    """One generation in the grid. `version` is 0 where only the read model was asked."""

    id: UUID
    version: int
    status: Status
    settled: bool
    prompt: str
    model: str
    created_at: datetime
    tiles: Sequence[Tile]

    @property
    def since(self) -> str:
        """When it was made, for a script that counts."""
        return wire_time(self.created_at)


def card_of_summary(row: GenerationSummary) -> Card:
    """A complete generation as the read model has it. Of a running one it knows too little: see `card_of_state`."""
    tiles = [_image(artifact) for artifact in row.artifacts[:MOST_TILES]]
    ratio = tiles[0].ratio if tiles else 1.0
    note = SHORT.get(row.error_code or "", "failed")
    missing = row.counts.failed + (row.counts.missing if row.status != "running" else 0)
    if not tiles and missing:
        missing, note = 1, _of_all(note, row.counts.expected)  # nothing came: that is one thing to know
    tiles += [Tile("failed", ratio, note=note)] * min(missing, MOST_TILES - len(tiles))
    settled = row.status != "running"
    return Card(row.id, 0, row.status, settled, row.prompt or "", row.model or "", row.created_at, tiles)


def card_of_state(state: GenerationState) -> Card:
    """A generation as it is now."""
    return Card(
        state.id,
        state.version,
        state.status,
        state.settled,
        prompt_of(state),
        state.model or "",
        state.created_at,
        tiles_of(state)[:MOST_TILES],
    )


def tiles_of(state: GenerationState) -> list[Tile]:
    """Its outputs as they were finished, then one for each that is awaited: what is shown keeps its place."""
    wanted = _ratio(state.input.get("width"), state.input.get("height"))
    projected = state.completed_at is not None and state.projected_at is not None
    tiles = []
    for output in in_order(state):
        if isinstance(output, SuccessOutput):
            tiles.append(_image(output, passed=5 if projected else 4))
        else:
            note = SHORT.get(output.error.code, output.error.code)
            tiles.append(Tile("failed", wanted, output.id, note=note))
    delivered = sum(entry.event == "delivered" for entry in state.timeline)
    for number in range(state.counts.missing if state.status == "running" else 0):
        here = len(state.outputs) + number < delivered
        passed, note = (3, "fetching") if here else _DISPATCH[state.dispatch]
        tiles.append(Tile("pending", wanted, passed=passed, note=note))
    if state.status != "running" and len(tiles) < state.counts.expected:
        note = SHORT.get(state.error.code, "failed") if state.error is not None else "failed"
        tiles += [Tile("failed", wanted, note=note)] * (state.counts.expected - len(tiles))
    if state.status != "running" and len(tiles) > 1 and len({(tile.kind, tile.note) for tile in tiles}) == 1:
        return [replace(tiles[0], note=_of_all(tiles[0].note, len(tiles)))] if tiles[0].kind == "failed" else tiles
    return tiles


def _of_all(note: str, number: int) -> str:
    return note if number == 1 else f"{number} images: {note}"


def in_order(state: GenerationState) -> list[Output]:
    """Its outputs in the order in which they were finished."""
    stored = {(entry.note or "")[:36]: entry.at for entry in state.timeline if entry.event == "stored"}
    return sorted(state.outputs, key=lambda output: stored.get(str(output.id), output.created_at))


_DISPATCH: Mapping[str, tuple[int, str]] = {
    "queued": (0, "waiting to be sent"),
    "sending": (0, "being sent"),
    "unknown": (1, "asking whether Runware has it"),
    "accepted": (2, "being made"),
    "refused": (1, "refused"),
}


def state_of_summary(row: GenerationSummary) -> GenerationState:
    """What can be shown of a generation that only the read model knows: version 0, and nothing can be done to it."""
    images = [
        SuccessOutput(**artifact.model_dump(), image_uuid="", item=None)
        for artifact in row.artifacts  # the same fields, but for what Runware said
    ]
    return GenerationState(
        id=row.id,
        task_uuid=row.id,
        version=0,
        status=row.status,
        dispatch="accepted",
        counts=row.counts,
        model=row.model,
        input={"positivePrompt": row.prompt, "model": row.model},
        metadata=row.metadata,
        outputs=[*images],
        error=None,
        projection_error=None,
        created_at=row.created_at,
        dispatched_at=None,
        completed_at=row.completed_at,
        projected_at=row.completed_at,
        deleted_at=None,
        deadline=row.created_at,
        settled=True,
        timeline=[],
    )


def prompt_of(state: GenerationState) -> str:
    """The prompt as text, whatever was sent as one."""
    prompt = state.input.get("positivePrompt")
    return prompt if isinstance(prompt, str) else ""


def errors_of(state: GenerationState) -> list[tuple[str, Mapping[str, Any], Any]]:
    """Both levels of errors: where, the error, and Runware's raw object when there is one."""
    found: list[tuple[str, Mapping[str, Any], Any]] = []
    for where, error in (("generation", state.error), ("database", state.projection_error)):
        if error is not None and not (where == "database" and error == state.error):
            found.append((where, error.model_dump(mode="json"), None))
    for number, output in enumerate(state.outputs, 1):
        if isinstance(output, ErrorOutput):
            found.append((f"output {number}", output.error.model_dump(mode="json"), output.raw))
    return found


def _image(image: SuccessOutput | ArtifactSummary, passed: int = 5) -> Tile:
    return Tile("image", _ratio(image.width, image.height), image.id, image.width, image.height, passed)


def _ratio(width: object, height: object) -> float:
    """The nearest of `RATIOS`."""
    if not (isinstance(width, int) and isinstance(height, int) and width > 0 and height > 0):
        return 1.0
    return min(RATIOS, key=lambda ratio: abs(ratio - width / height))
