"""The commands that look at what was made, and their options. What they do is in the modules beside this one."""

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from runware_provider.cli import options
from runware_provider.cli.help import Command
from runware_provider.cli.options import Id, Json, examples, prose
from runware_provider.cli.running import run_with_settings

app = typer.Typer()
command = partial(app.command, cls=Command)
PANEL = "Look at them"


def filters(
    status: str | None,
    model: str | None,
    prompt: str | None,
    error: str | None,
    label: list[str] | None,
    created_after: str | None,
    created_before: str | None,
) -> dict[str, Any]:
    """The filters of the read model, by the API's names. Raises InvalidArgs."""
    from runware_provider.cli.fields import pairs

    given = {
        "status": status,
        "model": model,
        "prompt": prompt,
        "error": error,
        "created_after": created_after,
        "created_before": created_before,
        **{f"metadata.{key}": value for key, value in pairs("--label", label or [])},
    }
    return {name: value for name, value in given.items() if value is not None}


@command(rich_help_panel=PANEL)
def show(id: Id, as_json: Json = False) -> int:
    """Show one generation: its images, costs, seeds and errors."""
    from runware_provider.cli import commands

    return run_with_settings(lambda settings: commands.show(settings, id, as_json=as_json))


@command(
    name="list",
    rich_help_panel=PANEL,
    epilog=examples(
        "list --status failed", "list --prompt lighthouse --label order=4711", "list --csv --all > all.csv"
    ),
)
def list_(
    status: options.OfStatus = None,
    model: options.OfModel = None,
    prompt: options.OfPrompt = None,
    error: options.OfError = None,
    label: options.OfLabel = None,
    created_after: options.After = None,
    created_before: options.Before = None,
    limit: Annotated[int, typer.Option(min=1, max=200, help="Rows of a page.")] = 20,
    cursor: Annotated[str | None, typer.Option(help="From the page before.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All pages; with --csv or --json.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV (RFC 4180) with a header.")] = False,
    as_json: Json = False,
) -> int:
    """List generations of the read model, newest first."""
    from runware_provider.cli.listing import Form, index

    if as_csv and as_json:
        raise typer.BadParameter("is one format, --json is another: give one of them", param_hint="--csv")
    if everything and not (as_csv or as_json):
        raise typer.BadParameter("is for --csv and --json; a table goes on with --cursor", param_hint="--all")
    wanted = filters(status, model, prompt, error, label, created_after, created_before)
    form: Form = "csv" if as_csv else "json" if as_json else "table"
    return run_with_settings(
        lambda settings: index(settings, wanted, limit=limit, cursor=cursor, everything=everything, form=form)
    )


@command(
    rich_help_panel=PANEL,
    help=prose(
        """Follow generations as they change.

        With ids: until all are settled; exit code 1 when any image is missing. Without ids: all generations of the
        running service, a line a change, until Ctrl-C.
        """
    ),
    epilog=examples("watch", "watch 01a219a7-965e-7347-b3ad-5025f1de64c6", "watch --json | jq .what"),
)
def watch(
    ids: options.Ids = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON object a line.")] = False,
) -> int:
    """Follow generations as they change."""
    from runware_provider.cli import watch as commands

    if ids:
        return run_with_settings(lambda settings: commands.watch(settings, ids, as_json=as_json))
    return run_with_settings(lambda settings: commands.watch_all(settings, as_json=as_json))


@command(name="open", rich_help_panel=PANEL, epilog=examples("open", "open 01a219a7-965e-7347-b3ad-5025f1de64c6"))
def open_(
    id: Annotated[
        str | None, typer.Argument(metavar="ID", help="Its page, instead of the gallery.", show_default=False)
    ] = None,
    only_print: Annotated[bool, typer.Option("--print", help="Only print the address.")] = False,
) -> int:
    """Open the gallery of the running service in the browser."""
    from runware_provider.cli.browse import browse

    return run_with_settings(lambda settings: browse(settings, id, only_print=only_print))


@command(
    rich_help_panel=PANEL,
    help=prose(
        """Write images and their recipes to a folder, or into one zip file.

        Those of the generations that are named, or else of all that the filters leave. Beside each image lies its
        recipe as JSON: exact input, model, seed, cost and hash. Each is checked against its hash on the way. In a
        folder only what is missing is written, so that the same command completes it.
        """
    ),
    epilog=examples(
        "export --out everything.zip",
        "export --label order=4711 --out order-4711/",
        "export 01a219a7-965e-7347-b3ad-5025f1de64c6 --out shots/",
    ),
)
def export(
    out: Annotated[
        Path, typer.Option(metavar="PLACE", help="A folder, or a new file that ends with .zip.", show_default=False)
    ],
    ids: options.Ids = None,
    status: options.OfStatus = None,
    model: options.OfModel = None,
    prompt: options.OfPrompt = None,
    error: options.OfError = None,
    label: options.OfLabel = None,
    created_after: options.After = None,
    created_before: options.Before = None,
    as_json: Json = False,
) -> int:
    """Write images and their recipes to a folder, or into one zip file."""
    from runware_provider.cli.export import export as command

    wanted = filters(status, model, prompt, error, label, created_after, created_before)
    if ids and wanted:
        raise typer.BadParameter("give ids, or filters, and not both", param_hint="ID")
    return run_with_settings(lambda settings: command(settings, ids or [], wanted, out, as_json=as_json))


@command(rich_help_panel=PANEL)
def retry(id: Id, as_json: Json = False) -> int:
    """Try the failed outputs of a generation again. Costs nothing."""
    from runware_provider.cli import commands

    return run_with_settings(lambda settings: commands.retry(settings, id, as_json=as_json))


@command(rich_help_panel=PANEL)
def delete(id: Id) -> int:
    """Delete a generation: hidden at once, images and prompt removed 30 s later by the service."""
    from runware_provider.cli import commands

    return run_with_settings(lambda settings: commands.delete(settings, id))


@command(rich_help_panel=PANEL)
def undelete(id: Id, as_json: Json = False) -> int:
    """Take a delete back, as long as its images are still there."""
    from runware_provider.cli import commands

    return run_with_settings(lambda settings: commands.undelete(settings, id, as_json=as_json))
