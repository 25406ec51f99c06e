"""The commands that run the service, look after it, or try it out. What they do is in the modules beside this one."""

import sys
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from runware_provider.cli.help import Command
from runware_provider.cli.options import Id, Json, examples, prose
from runware_provider.cli.running import run_until_done, run_with_settings

app = typer.Typer()
command = partial(app.command, cls=Command)
SERVICE, TRIAL = "Service", "Trying it out"


@command(
    rich_help_panel=TRIAL,
    help=prose(
        """Make four pictures with a simulated Runware, and look at them in the browser. No key, no setup.

        On a terminal the gallery stays until Ctrl-C. In a pipe or in CI the demo ends when the pictures are made.
        """
    ),
    epilog=examples("demo", 'demo --prompt "a red fox in the snow"'),
)
def demo(
    folder: Annotated[Path, typer.Option(metavar="FOLDER", help="Where the demo keeps its state and pictures.")] = Path(
        "demo"
    ),
    prompt: Annotated[
        str, typer.Option(metavar="TEXT", help="What to picture.")
    ] = "a lighthouse at dusk, soft light, gentle waves",
    serve: Annotated[
        bool | None,
        typer.Option(
            "--serve/--no-serve", help="Keep the gallery until Ctrl-C; by default on a terminal.", show_default=False
        ),
    ] = None,
) -> int:
    """Make four pictures with a simulated Runware, and look at them in the browser."""
    from runware_provider.cli.demo import demo as command

    stays = sys.stdout.isatty() if serve is None else serve
    return run_until_done(lambda: command(folder, prompt, serve=stays))


@command(rich_help_panel=TRIAL)
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
    return run_until_done(lambda: command(host, port, latency, faults, options))


@command(rich_help_panel=SERVICE)
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

    return run_with_settings(lambda settings: command(settings, host, port, takeover_wait, work=work))


@command(rich_help_panel=SERVICE)
def worker(
    host: Annotated[str, typer.Option(help="Address that health and metrics listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 8081,
) -> int:
    """Do the work of a service whose state is on PostgreSQL; run any number of them."""
    from runware_provider.cli.service import worker as command

    return run_with_settings(lambda settings: command(settings, host, port))


@command(rich_help_panel=SERVICE)
def doctor(
    deep: Annotated[bool, typer.Option("--deep", help="Read the whole state as well.")] = False, as_json: Json = False
) -> int:
    """Look at everything the service depends on, and say what to do."""
    from runware_provider.cli import commands

    return run_with_settings(lambda settings: commands.doctor(settings, deep=deep, as_json=as_json))


@command(rich_help_panel=SERVICE)
def reconcile(
    id: Annotated[str | None, typer.Argument(metavar="ID", help="Only this generation.")] = None,
    unclaimed: Annotated[bool, typer.Option("--unclaimed", help="Give unclaimed deliveries again too.")] = False,
    as_json: Json = False,
) -> int:
    """Ask Runware now what became of what is running. Costs nothing."""
    from runware_provider.cli import commands

    return run_with_settings(lambda settings: commands.reconcile(settings, id, unclaimed=unclaimed, as_json=as_json))


@command(rich_help_panel=SERVICE)
def replay(
    id: Annotated[str | None, typer.Argument(metavar="ID", help="A generation's id.")] = None,
    all_failed: Annotated[bool, typer.Option("--all-failed", help="All whose projection failed.")] = False,
    as_json: Json = False,
) -> int:
    """Write generations into the database again, from state."""
    from runware_provider.cli import commands

    if id is not None and not all_failed:
        return run_with_settings(lambda settings: commands.replay(settings, id, as_json=as_json))
    if id is None and all_failed:
        return run_with_settings(lambda settings: commands.replay_all(settings, everything=False, as_json=as_json))
    raise typer.BadParameter("give one, or --all-failed for all that failed", param_hint="ID")


@command(rich_help_panel=SERVICE)
def rebuild_projection(as_json: Json = False) -> int:
    """Write every generation into the database anew, from state, while traffic goes on."""
    from runware_provider.cli import commands

    return run_with_settings(lambda settings: commands.replay_all(settings, everything=True, as_json=as_json))


@command(rich_help_panel=SERVICE)
def clear(id: Id, as_json: Json = False) -> int:
    """Clear the projection_failed of a generation."""
    from runware_provider.cli import commands

    return run_with_settings(lambda settings: commands.clear(settings, id, as_json=as_json))


@command(rich_help_panel=SERVICE)
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
    return run_with_settings(lambda settings: commands.migrate(settings, as_json=as_json))
