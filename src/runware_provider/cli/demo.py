"""`demo`: the main job from request to bucket, database and browser, against the simulator, in one process."""

import asyncio
import shutil
from pathlib import Path
from socket import socket
from typing import Any

from pydantic import SecretStr
from rich.text import Text

from runware_provider.cli import render
from runware_provider.cli.console import out, say
from runware_provider.context import Context
from runware_provider.create import create_generation, get_generation
from runware_provider.errors import ConfigurationError, DataDirInUse
from runware_provider.serving import bind, serving, until_stopped
from runware_provider.settings import Settings
from runware_provider.simulator import Simulator, SimulatorOptions
from runware_provider.types import CreateArgs, GenerationArgs, GenerationState, ListArgs, SuccessOutput
from runware_provider.words import money

_STEPS = {
    "created": "committed to state, before a cent is spent",
    "dispatching": "sent to the simulated Runware",
    "accepted": "accepted; results will come by webhook",
    "delivered": "webhook received and committed",
    "stored": "fetched, checked, hashed, written and synced",
    "completed": "all images are in the bucket",
    "projected": "the database has the rows",
}


PORT = 8080
"""Where the gallery is looked for; another one when something else has it."""


async def demo(folder: Path, prompt: str, *, serve: bool) -> int:
    """Make four pictures and say where they are; with `serve` the gallery stays until Ctrl-C."""
    pictures = folder / "pictures"
    try:
        pictures.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(f"--folder {folder} cannot be used: {error.strerror}") from error
    unhurried = SimulatorOptions(latency=(0.3, 0.5), result_spread=(0.1, 0.3))
    async with Simulator(unhurried) as simulator:
        with _listener() as listener:
            public_url = f"http://127.0.0.1:{listener.getsockname()[1]}"
            settings = simulated_settings(simulator, public_url, folder / "data")
            _tell_of("simulator", simulator.url)
            _tell_of("service", public_url)
            try:
                async with Context.open(settings) as ctx, serving(ctx, listener):
                    # Whoever comes back to look finds what was made before, and not the same once more.
                    made = (await ctx.projection.list(ListArgs(status="completed", limit=1))).items if serve else []
                    code = _there_already(pictures) if made else await _four_pictures(ctx, pictures, prompt)
                    if serve:
                        await _look(f"{public_url}/")
            except DataDirInUse as error:
                raise ConfigurationError(
                    f"another demo is at work in {folder}; give this one another --folder"
                ) from error
    if not serve:
        say(out, "look at them, and make more: make gallery, or runware-provider demo --serve")
        say(out, f"they will be at http://127.0.0.1:{PORT}/")
    return code


def _there_already(pictures: Path) -> int:
    say(out, "the pictures of the last demo are in ", (str(pictures), "bold"))
    return 0


def simulated_settings(simulator: Simulator, public_url: str, data_dir: Path, **changes: Any) -> Settings:
    """Those of a service on loopback that uses `simulator` as Runware does its own: by webhook."""
    given: dict[str, Any] = {
        "runware_api_key": SecretStr("simulated"),
        "runware_url": simulator.url,
        "image_hosts": ("127.0.0.1",),
        "public_url": public_url,
        "delivery": "webhook",
        "data_dir": data_dir,
    }
    return Settings(**(given | changes))


async def _look(address: str) -> None:
    """The last that is said, and the end on Ctrl-C: all that a newcomer has to read."""
    stopped = asyncio.create_task(until_stopped())
    await asyncio.sleep(0)  # it listens for Ctrl-C before anybody can read of it
    say(out, "look at them, and make more: ", (address, "bold"))
    say(out, "Ctrl-C ends the demo")
    out.file.flush()
    await stopped


def _listener() -> socket:
    try:
        return bind("127.0.0.1", PORT)
    except ConfigurationError:
        return bind("127.0.0.1", 0)


async def _four_pictures(ctx: Context, pictures: Path, prompt: str) -> int:
    request = {"positivePrompt": prompt, "model": "runware:101@1", "width": 1024, "height": 768, "numberResults": 4}
    _tell_of("request", f"4 × {prompt}")
    state = await create_generation(ctx, CreateArgs(input=request, metadata={"made_by": "demo"}))
    _tell_of("id", str(state.id))
    told = _tell(state, 0)
    while not state.settled:
        await ctx.runtime.changed(state.id, after=state.version)
        state = await get_generation(ctx, GenerationArgs(generation_id=state.id))
        told = _tell(state, told)
    stored = [output for output in state.outputs if output.type == "success"]
    files = [_copy(ctx, output, pictures, f"{state.id.hex[-8:]}-{number}") for number, output in enumerate(stored, 1)]
    out.print()
    shown = [(file.name, output.model_dump(mode="json")) for file, output in zip(files, stored, strict=True)]
    render.pictures("picture", shown)
    await _row(ctx, state)
    out.print()
    say(out, "the pictures are in ", (str(pictures), "bold"))
    return 0 if len(files) == 4 else 1


def _tell_of(name: str, value: str) -> None:
    say(out, value, label=(f"{name:<10}", "dim"))


def _tell(state: GenerationState, told: int) -> int:
    """Print what has happened since; returns how much of the timeline has been told."""
    for entry in state.timeline[told:]:
        passed = (entry.at - state.created_at).total_seconds()
        words = _STEPS.get(entry.event, entry.note or "")
        style = "green" if entry.event in {"completed", "projected"} else ""
        head = Text.assemble((f"  {passed:6.3f} s  ", "dim"), (f"{entry.event:<13}", style))
        say(out, words, label=head)
    return len(state.timeline)


def _copy(ctx: Context, output: SuccessOutput, pictures: Path, name: str) -> Path:
    source = ctx.artifacts.local_path(output.key)
    if source is None:
        raise ConfigurationError("the demo keeps its images in files")
    target = pictures / f"{name}{source.suffix}"
    shutil.copyfile(source, target)
    return target


async def _row(ctx: Context, state: GenerationState) -> None:
    """The read model's row, as anybody's SQL would see it."""
    page = await ctx.projection.list(ListArgs(limit=1))
    row = next(item for item in page.items if item.id == state.id)
    out.print()
    say(out, ("in the database ", "dim"), ctx.settings.projection_address)
    values = {
        "id": str(row.id),
        "status": row.status,
        "model": row.model or "",
        "prompt": row.prompt or "",
        "images": f"{row.counts.stored} of {row.counts.expected}",
        "cost": money(row.cost_micros),
        "labels": ", ".join(f"{key}={value}" for key, value in row.metadata.items()),
    }
    for name, value in values.items():
        render.field(name, value)
