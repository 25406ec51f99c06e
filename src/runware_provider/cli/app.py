"""The commands and their options. What they do is in the modules beside this one."""

import asyncio
import json
import logging
import os
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Annotated, Any

import typer

from runware_provider.cli.connection import Answered
from runware_provider.cli.render import err
from runware_provider.errors import (
    ConfigurationError,
    InvalidArgs,
    RunwareProviderError,
    RunwareUnavailable,
    StateUnavailable,
)
from runware_provider.logs import configure
from runware_provider.settings import Settings, load_settings

app = typer.Typer(
    name="runware-provider",
    help="Durable, queue-based image generation on Runware's API.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

TRY_AGAIN = 75
INTERRUPTED = 130

Json = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]
Id = Annotated[str, typer.Argument(metavar="ID", help="A generation's id.")]


def run(arguments: list[str]) -> int:
    """Run one command line and return its exit code."""
    configure(logging.DEBUG if os.environ.get("RUNWARE_PROVIDER_DEBUG") else logging.CRITICAL)
    os.environ.pop("RUNWARE_PROVIDER_DEBUG", None)
    try:
        code = app(arguments, standalone_mode=False)
    except typer.Abort:
        return INTERRUPTED
    except typer.TyperException as error:
        message = error.format_message()
        if not message:  # no command was given, and the help has been shown
            return 2
        err.print(f"[red]error:[/red] {_escaped(message)}")
        err.print("see: runware-provider --help, runware-provider COMMAND --help")
        return 2
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of our output went away, as `head` does; nothing more can be said to it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except RunwareProviderError as error:
        return _failed(error)
    return code if isinstance(code, int) else 0


def _failed(error: RunwareProviderError) -> int:
    err.print(f"[red]error:[/red] {_escaped(str(error))}")
    match error:
        case Answered(status=status):
            if error.problem.get("generation_id"):
                err.print(f"  generation {error.problem['generation_id']}")
            for each in error.problem.get("runware_errors") or ():
                err.print(f"  Runware: {_escaped(json.dumps(each, ensure_ascii=False))}")
            if error.problem.get("title") == "Not configured":
                return 2
            return 2 if status in {400, 409, 413, 422} else TRY_AGAIN if status in {429, 503} else 1
        case ConfigurationError() | InvalidArgs():
            return 2
        case RunwareUnavailable() | StateUnavailable():
            return TRY_AGAIN
        case _:
            return 1


def _escaped(text: str) -> str:
    return text.replace("[", "\\[")


def _run(settings: Settings | None, command: Callable[[Settings], Coroutine[Any, Any, int | None]]) -> int:
    import uvloop

    chosen = settings or load_settings()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(command(chosen)) or 0


@app.command()
def serve(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 8080,
    takeover_wait: Annotated[float, typer.Option(min=0, help="Seconds to wait for another server to go.")] = 10.0,
) -> int:
    """Run the service: client API, Runware's webhook and the work."""
    from runware_provider.cli.service import serve as command

    return _run(None, lambda settings: command(settings, host, port, takeover_wait))


@app.command()
def simulate(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 8181,
    latency: Annotated[str, typer.Option(help="Seconds until the first result: 2 or 0.5-2.")] = "0.05-0.15",
    image_bytes: Annotated[int | None, typer.Option(min=32_768, help="Plain images of exactly this size.")] = None,
    error_rate: Annotated[float, typer.Option(min=0, max=1, help="Share of results that are errors.")] = 0.0,
    webhook_drop_rate: Annotated[float, typer.Option(min=0, max=1, help="Share of webhooks never sent.")] = 0.0,
    dispatch_error_rate: Annotated[float, typer.Option(min=0, max=1, help="Share of tasks refused with 503.")] = 0.0,
    seed: Annotated[int, typer.Option(help="Seed of everything that is left to chance.")] = 0,
    faults: Annotated[Path | None, typer.Option(help="A fault plan as JSON; see docs/reference/simulator.md.")] = None,
) -> int:
    """Run a local Runware: API, image CDN and webhooks, with pictures and faults of its own."""
    from runware_provider.cli.service import simulate as command

    options = {
        "image_bytes": image_bytes,
        "error_rate": error_rate,
        "webhook_drop_rate": webhook_drop_rate,
        "dispatch_error_rate": dispatch_error_rate,
        "seed": seed,
    }
    return asyncio.run(command(host, port, latency, faults, options))


@app.command()
def demo(
    folder: Annotated[Path, typer.Option(help="Where the demo keeps its state and pictures.")] = Path("demo"),
    prompt: Annotated[str, typer.Option(help="What to picture.")] = "a lighthouse at dusk, soft light, gentle waves",
) -> int:
    """Make four pictures with the simulator, from request to bucket and database. No key, no server."""
    import uvloop

    from runware_provider.cli.demo import demo as command

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(command(folder, prompt))


@app.command()
def generate(
    prompt: Annotated[str, typer.Argument(help="What to picture.")],
    model: Annotated[
        str, typer.Option("--model", "-m", help="AIR id, see `runware-provider models`.")
    ] = "runware:101@1",
    number: Annotated[int, typer.Option("-n", "--number", min=1, max=20, help="How many images.")] = 1,
    size: Annotated[str | None, typer.Option(help="WIDTHxHEIGHT in pixels.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="The same seed makes the same image.")] = None,
    negative: Annotated[str | None, typer.Option(help="What not to picture.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Inference steps.")] = None,
    format: Annotated[str | None, typer.Option(help="JPG, PNG or WEBP.")] = None,
    field: Annotated[
        list[str] | None, typer.Option("--field", help="Any other field of Runware's: NAME=JSON, repeatable.")
    ] = None,
    label: Annotated[list[str] | None, typer.Option("--label", help="Your own label: KEY=VALUE, repeatable.")] = None,
    out: Annotated[Path, typer.Option(help="Folder that the images are written to.")] = Path(),
    as_json: Json = False,
) -> int:
    """Make images and write them to files."""
    from runware_provider.cli.generate import generate as command
    from runware_provider.cli.generate import read_input

    request = read_input(
        prompt,
        model,
        number=number,
        size=size,
        seed=seed,
        negative=negative,
        steps=steps,
        format=format,
        fields=field or [],
        labels=label or [],
    )
    return _run(None, lambda settings: command(settings, request, out, as_json=as_json))


@app.command()
def show(id: Id, as_json: Json = False) -> int:
    """Show one generation."""
    from runware_provider.cli import commands

    return _run(None, lambda settings: commands.show(settings, id, as_json=as_json))


@app.command(name="list")
def list_(
    status: Annotated[str | None, typer.Option(help="running, completed or failed.")] = None,
    model: Annotated[str | None, typer.Option(help="AIR id.")] = None,
    label: Annotated[list[str] | None, typer.Option("--label", help="KEY=VALUE, repeatable.")] = None,
    created_after: Annotated[str | None, typer.Option(help="ISO-8601 time.")] = None,
    created_before: Annotated[str | None, typer.Option(help="ISO-8601 time.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=200, help="Rows of a page.")] = 20,
    cursor: Annotated[str | None, typer.Option(help="From the page before.")] = None,
    as_json: Json = False,
) -> int:
    """List generations of the read model, newest first."""
    from runware_provider.cli import commands

    filters = {
        "status": status,
        "model": model,
        "created_after": created_after,
        "created_before": created_before,
        "limit": limit,
        "cursor": cursor,
        **{f"metadata.{key}": value for key, value in commands.pairs("--label", label or [])},
    }
    return _run(None, lambda settings: commands.index(settings, filters, as_json=as_json))


@app.command()
def models(
    query: Annotated[str, typer.Argument(help="Words of the model's name.")] = "",
    category: Annotated[str | None, typer.Option(help="checkpoint, lora, lycoris, vae or embeddings.")] = None,
    architecture: Annotated[str | None, typer.Option(help="For example flux1d, sdxl.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=100, help="Rows of a page.")] = 20,
    offset: Annotated[int, typer.Option(min=0, help="Rows to pass over.")] = 0,
    as_json: Json = False,
) -> int:
    """Search Runware's model catalogue."""
    from runware_provider.cli import commands

    filters = {
        "search": query or None,
        "category": category,
        "architecture": architecture,
        "limit": limit,
        "offset": offset,
    }
    return _run(None, lambda settings: commands.models(settings, filters, as_json=as_json))


@app.command()
def retry(id: Id, as_json: Json = False) -> int:
    """Try the failed outputs of a generation again. Costs nothing."""
    from runware_provider.cli import commands

    return _run(None, lambda settings: commands.retry(settings, id, as_json=as_json))


@app.command()
def replay(
    id: Annotated[str | None, typer.Argument(metavar="ID", help="A generation's id.")] = None,
    all_failed: Annotated[bool, typer.Option("--all-failed", help="All whose projection failed.")] = False,
    as_json: Json = False,
) -> int:
    """Write generations into the database again, from state."""
    from runware_provider.cli import commands

    if (id is None) != all_failed:
        raise InvalidArgs([("ID", "give one, or --all-failed for all that failed")])
    return _run(None, lambda settings: commands.replay(settings, id, as_json=as_json))


@app.command()
def rebuild_projection(as_json: Json = False) -> int:
    """Write every generation into the database anew, from state, while traffic goes on."""
    from runware_provider.cli import commands

    return _run(None, lambda settings: commands.rebuild(settings, as_json=as_json))


@app.command()
def clear(id: Id, as_json: Json = False) -> int:
    """Clear the projection_failed of a generation."""
    from runware_provider.cli import commands

    return _run(None, lambda settings: commands.clear(settings, id, as_json=as_json))


@app.command()
def delete(id: Id) -> int:
    """Delete a generation: hidden at once, images and prompt removed 30 s later by the service."""
    from runware_provider.cli import commands

    return _run(None, lambda settings: commands.delete(settings, id))


@app.command()
def reconcile(
    id: Annotated[str | None, typer.Argument(metavar="ID", help="Only this generation.")] = None,
    unclaimed: Annotated[bool, typer.Option("--unclaimed", help="Give unclaimed deliveries again too.")] = False,
    as_json: Json = False,
) -> int:
    """Ask Runware now what became of what is running. Costs nothing."""
    from runware_provider.cli import commands

    return _run(None, lambda settings: commands.reconcile(settings, id, unclaimed=unclaimed, as_json=as_json))


@app.command()
def doctor(
    deep: Annotated[bool, typer.Option("--deep", help="Read the whole state as well.")] = False, as_json: Json = False
) -> int:
    """Look at everything the service depends on, and say what to do."""
    from runware_provider.cli import commands

    return _run(None, lambda settings: commands.doctor(settings, deep=deep, as_json=as_json))


@app.command()
def migrate(as_json: Json = False) -> int:
    """Bring the read model's database to this release's schema."""
    from runware_provider.cli import commands

    return _run(None, lambda settings: commands.migrate(settings, as_json=as_json))
