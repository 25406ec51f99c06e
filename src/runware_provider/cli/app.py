"""The commands and their options. What they do is in the modules beside this one."""

import os
import signal
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from runware_provider.cli import INTERRUPTED, WRONG, leave
from runware_provider.cli.console import discard, err, out, say

if TYPE_CHECKING:  # pydantic takes a tenth of a second, and `--help` has no use for it
    from runware_provider.settings import Settings

NAME = "runware-provider"

Work = Coroutine[Any, Any, int | None]
"""A command at work; it comes to an exit code, 0 when None."""

app = typer.Typer(
    name=NAME,
    help="Durable, queue-based image generation on Runware's API.",
    epilog="Begin with `runware-provider demo`, which needs no key. Settings come from the environment "
    "(RUNWARE_API_KEY, RUNWARE_PROVIDER_...) or from runware-provider.toml.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

IMAGES, SERVICE, TRIAL = "Images", "Service", "Trying it out"

Json = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]
Id = Annotated[str, typer.Argument(metavar="ID", help="A generation's id.")]


def run(arguments: list[str]) -> int:
    """Run one command line and return its exit code."""
    try:
        code = app(arguments, standalone_mode=False, prog_name=NAME)
    except (typer.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except typer.TyperException as error:
        return _misused(error)
    except SystemExit as error:
        if isinstance(error.__context__, BrokenPipeError):  # whoever read the help has left
            for stream in (out, err):
                discard(stream.file)
            return 0
        raise
    except Exception as error:
        from runware_provider.cli.failures import told

        exit_code = told(error)
        if exit_code is None:
            raise
        return exit_code
    return code if isinstance(code, int) else 0


def _misused(error: typer.TyperException) -> int:
    message = error.format_message()
    if message:  # else no command was given, and the help has been shown
        context = getattr(error, "ctx", None)
        say(err, ("error: ", "red"), message)
        say(err, f"see: {context.command_path if context else NAME} --help")
    return WRONG


def _run(command: Callable[["Settings"], Work]) -> int:
    from runware_provider.settings import load_settings

    return _until_done(lambda: command(load_settings()))


def _until_done(command: Callable[[], Work]) -> int:
    import asyncio
    import logging

    import uvloop

    from runware_provider.logs import configure

    debug = os.environ.pop("RUNWARE_PROVIDER_DEBUG", None)  # no setting: it is for whoever works on this command
    configure(logging.DEBUG if debug else logging.CRITICAL)
    work = command()
    before = signal.getsignal(signal.SIGINT)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(_interruptible(work)) or 0
    finally:
        signal.signal(signal.SIGINT, before)


async def _interruptible(work: Work) -> int | None:
    """`work`, which Ctrl-C ends in good order, and a second one at once: what counts is durable by then."""
    import asyncio

    loop = asyncio.get_running_loop()
    task = asyncio.ensure_future(work)
    patience: list[asyncio.TimerHandle] = []

    def pressed() -> None:
        if patience:
            leave()
        patience.append(loop.call_later(1, say, err, "stopping in good order; once more stops at once"))
        task.cancel()

    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        loop.add_signal_handler(signal.SIGINT, pressed)
    try:
        return await task
    except asyncio.CancelledError:
        return INTERRUPTED
    finally:
        for timer in patience:
            timer.cancel()
        loop.remove_signal_handler(signal.SIGINT)


@app.command(rich_help_panel=TRIAL)
def demo(
    folder: Annotated[Path, typer.Option(help="Where the demo keeps its state and pictures.")] = Path("demo"),
    prompt: Annotated[str, typer.Option(help="What to picture.")] = "a lighthouse at dusk, soft light, gentle waves",
) -> int:
    """Make four pictures with the simulator, from request to bucket and database. No key, no server."""
    from runware_provider.cli.demo import demo as command

    return _until_done(lambda: command(folder, prompt))


@app.command(rich_help_panel=TRIAL)
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
    return _until_done(lambda: command(host, port, latency, faults, options))


@app.command(rich_help_panel=IMAGES)
def generate(
    prompt: Annotated[str, typer.Argument(help="What to picture.")],
    model: Annotated[
        str, typer.Option("--model", "-m", help="AIR id, see `runware-provider models`.")
    ] = "runware:101@1",
    number: Annotated[int, typer.Option("-n", "--number", min=1, max=20, help="How many images.")] = 1,
    size: Annotated[str | None, typer.Option(help="WIDTHxHEIGHT in pixels, such as 1024x768.")] = None,
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
    return _run(lambda settings: command(settings, request, out, as_json=as_json))


@app.command(rich_help_panel=IMAGES)
def show(id: Id, as_json: Json = False) -> int:
    """Show one generation."""
    from runware_provider.cli import commands

    return _run(lambda settings: commands.show(settings, id, as_json=as_json))


@app.command(name="list", rich_help_panel=IMAGES)
def list_(
    status: Annotated[str | None, typer.Option(help="running, completed or failed.")] = None,
    model: Annotated[str | None, typer.Option(help="AIR id.")] = None,
    label: Annotated[list[str] | None, typer.Option("--label", help="KEY=VALUE, repeatable.")] = None,
    created_after: Annotated[
        str | None, typer.Option(help="ISO-8601 time, such as 2026-01-31T12:00Z; UTC if without zone.")
    ] = None,
    created_before: Annotated[
        str | None, typer.Option(help="ISO-8601 time, such as 2026-01-31T12:00Z; UTC if without zone.")
    ] = None,
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
    return _run(lambda settings: commands.index(settings, filters, as_json=as_json))


@app.command(rich_help_panel=IMAGES)
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
    return _run(lambda settings: commands.models(settings, filters, as_json=as_json))


@app.command(rich_help_panel=IMAGES)
def retry(id: Id, as_json: Json = False) -> int:
    """Try the failed outputs of a generation again. Costs nothing."""
    from runware_provider.cli import commands

    return _run(lambda settings: commands.retry(settings, id, as_json=as_json))


@app.command(rich_help_panel=IMAGES)
def delete(id: Id) -> int:
    """Delete a generation: hidden at once, images and prompt removed 30 s later by the service."""
    from runware_provider.cli import commands

    return _run(lambda settings: commands.delete(settings, id))


@app.command(rich_help_panel=SERVICE)
def serve(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 8080,
    takeover_wait: Annotated[float, typer.Option(min=0, help="Seconds to wait for another server to go.")] = 10.0,
    work: Annotated[
        bool, typer.Option("--worker/--no-worker", help="Do the work here, or leave it to `worker` processes.")
    ] = True,
) -> int:
    """Run the service: client API, Runware's webhook and the work."""
    from runware_provider.cli.service import serve as command

    return _run(lambda settings: command(settings, host, port, takeover_wait, work=work))


@app.command(rich_help_panel=SERVICE)
def worker(
    host: Annotated[str, typer.Option(help="Address that health and metrics listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 8081,
) -> int:
    """Do the work of a service whose state is on PostgreSQL; run any number of them."""
    from runware_provider.cli.service import worker as command

    return _run(lambda settings: command(settings, host, port))


@app.command(rich_help_panel=SERVICE)
def doctor(
    deep: Annotated[bool, typer.Option("--deep", help="Read the whole state as well.")] = False, as_json: Json = False
) -> int:
    """Look at everything the service depends on, and say what to do."""
    from runware_provider.cli import commands

    return _run(lambda settings: commands.doctor(settings, deep=deep, as_json=as_json))


@app.command(rich_help_panel=SERVICE)
def reconcile(
    id: Annotated[str | None, typer.Argument(metavar="ID", help="Only this generation.")] = None,
    unclaimed: Annotated[bool, typer.Option("--unclaimed", help="Give unclaimed deliveries again too.")] = False,
    as_json: Json = False,
) -> int:
    """Ask Runware now what became of what is running. Costs nothing."""
    from runware_provider.cli import commands

    return _run(lambda settings: commands.reconcile(settings, id, unclaimed=unclaimed, as_json=as_json))


@app.command(rich_help_panel=SERVICE)
def replay(
    id: Annotated[str | None, typer.Argument(metavar="ID", help="A generation's id.")] = None,
    all_failed: Annotated[bool, typer.Option("--all-failed", help="All whose projection failed.")] = False,
    as_json: Json = False,
) -> int:
    """Write generations into the database again, from state."""
    from runware_provider.cli import commands

    if id is not None and not all_failed:
        return _run(lambda settings: commands.replay(settings, id, as_json=as_json))
    if id is None and all_failed:
        return _run(lambda settings: commands.replay_all(settings, everything=False, as_json=as_json))
    raise typer.BadParameter("give one, or --all-failed for all that failed", param_hint="ID")


@app.command(rich_help_panel=SERVICE)
def rebuild_projection(as_json: Json = False) -> int:
    """Write every generation into the database anew, from state, while traffic goes on."""
    from runware_provider.cli import commands

    return _run(lambda settings: commands.replay_all(settings, everything=True, as_json=as_json))


@app.command(rich_help_panel=SERVICE)
def clear(id: Id, as_json: Json = False) -> int:
    """Clear the projection_failed of a generation."""
    from runware_provider.cli import commands

    return _run(lambda settings: commands.clear(settings, id, as_json=as_json))


@app.command(rich_help_panel=SERVICE)
def migrate(
    sql: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Write the read model's migrations there as .sql files for D1."),
    ] = None,
    as_json: Json = False,
) -> int:
    """Bring the databases to this release's schema: the read model's, and the state's when it is on PostgreSQL."""
    from runware_provider.cli import commands

    if sql is not None:
        commands.write_migrations(sql, as_json=as_json)
        return 0
    return _run(lambda settings: commands.migrate(settings, as_json=as_json))
