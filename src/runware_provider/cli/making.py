"""The commands that make images, and their options. What they do is in the modules beside this one."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from runware_provider.cli import options
from runware_provider.cli.help import Command
from runware_provider.cli.options import CATEGORIES, Json, examples, offer, prose
from runware_provider.cli.running import run_with_settings

app = typer.Typer()
command = partial(app.command, cls=Command)
PANEL = "Make images"


@command(
    rich_help_panel=PANEL,
    help=prose(
        """Make images and write them to files.

        No service is needed: when none runs, the command does the work. Ctrl-C leaves the job running, and says how to
        follow it.
        """
    ),
    epilog=examples(
        'generate "a lighthouse at dusk" -n 4 --size 1024x768 --out shots/',
        'generate "a red fox" --model sdxl --seed 7 --recipe',
        "generate --from shots/0007-1.json --steps 40",
    ),
)
def generate(
    prompt: Annotated[str | None, typer.Argument(help="What to picture.", show_default=False)] = None,
    model: options.Model = None,
    number: options.Number = None,
    size: options.Size = None,
    seed: options.Seed = None,
    negative: options.Negative = None,
    steps: options.Steps = None,
    format: options.Format = None,
    field: options.Field = None,
    label: options.Label = None,
    origin: Annotated[
        Path | None,
        typer.Option(
            "--from",
            metavar="RECIPE",
            help="Repeat the image of a recipe (.json); other options change it.",
            rich_help_panel="What to make",
        ),
    ] = None,
    out: options.Folder = Path(),
    recipe: Annotated[
        bool, typer.Option("--recipe", help="Write what made each image beside it, as JSON for --from.")
    ] = False,
    as_json: Json = False,
) -> int:
    """Make images and write them to files."""
    from runware_provider.cli.fields import Fields, read_options
    from runware_provider.cli.generate import generate as command
    from runware_provider.cli.recipes import read_recipe

    if prompt is None and origin is None:
        raise typer.BadParameter("say what to picture, or give a recipe with --from", param_hint="PROMPT")
    given = read_options(
        prompt=prompt,
        model=model,
        number=number,
        size=size,
        seed=seed,
        negative=negative,
        steps=steps,
        format=format,
        fields=field or [],
        labels=label or [],
    )
    wish = given if origin is None else Fields({**read_recipe(origin), **given.input}, given.labels)
    return run_with_settings(lambda settings: command(settings, wish, out, recipe=recipe, as_json=as_json))


@command(
    rich_help_panel=PANEL,
    help=prose(
        """Make the images of a whole file of prompts.

        Columns, and fields of the objects, are Runware's input fields; `prompt` is short for positivePrompt, and
        metadata (in CSV metadata.KEY) holds your own labels. What a line does not say, the options say for all.

        The same command in the same folder goes on where it stopped, whatever stopped it, and pays for nothing twice.
        Lines may be added, moved or taken away in between; a line that is changed is a new request.
        """
    ),
    epilog=examples(
        "batch prompts.jsonl --out shots/",
        "batch prompts.csv --out shots/ --model flux --size 1024x768 --in-flight 50",
        "batch prompts.csv --out shots/ --retry-failed",
    ),
)
def batch(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="prompts.jsonl, an object a line; or prompts.csv, a header and rows.",
            show_default=False,
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            metavar="FOLDER",
            help="Images, recipes, report, and what is known of the batch.",
            show_default=False,
        ),
    ],
    model: options.Model = None,
    number: options.Number = None,
    size: options.Size = None,
    seed: options.Seed = None,
    negative: options.Negative = None,
    steps: options.Steps = None,
    format: options.Format = None,
    field: options.Field = None,
    label: options.Label = None,
    in_flight: Annotated[int, typer.Option(metavar="N", min=1, max=200, help="Requests under way at once.")] = 16,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Ask anew for what failed before. Costs money.")
    ] = False,
    as_json: Json = False,
) -> int:
    """Make the images of a whole file of prompts."""
    from runware_provider.cli.batch import batch as command
    from runware_provider.cli.fields import read_options

    defaults = read_options(
        model=model,
        number=number,
        size=size,
        seed=seed,
        negative=negative,
        steps=steps,
        format=format,
        fields=field or [],
        labels=label or [],
    )
    return run_with_settings(
        lambda settings: command(
            settings, file, out, defaults, in_flight=in_flight, retry_failed=retry_failed, as_json=as_json
        )
    )


@command(rich_help_panel=PANEL, epilog=examples("models flux", "models --category lora --architecture sdxl"))
def models(
    query: Annotated[str, typer.Argument(help="Words of the model's name.", show_default=False)] = "",
    category: Annotated[
        str | None,
        typer.Option(help="checkpoint, lora, lycoris, vae or embeddings.", autocompletion=offer(*CATEGORIES)),
    ] = None,
    architecture: Annotated[str | None, typer.Option(help="For example flux1d, sdxl.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=100, help="Rows of a page.")] = 20,
    offset: Annotated[int, typer.Option(min=0, help="Rows to pass over.")] = 0,
    as_json: Json = False,
) -> int:
    """Search Runware's model catalogue. What is found is given to --model by its AIR id, or by its name."""
    from runware_provider.cli import commands

    filters = {
        "search": query or None,
        "category": category,
        "architecture": architecture,
        "limit": limit,
        "offset": offset,
    }
    return run_with_settings(lambda settings: commands.models(settings, filters, as_json=as_json))
