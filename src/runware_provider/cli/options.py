"""Options that several commands share, and what a shell offers for them."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from runware_provider.words import SHORT

MODEL = "runware:101@1"
"""The model of whoever names none."""

STATUSES = ("running", "completed", "failed")
FORMATS = ("JPG", "PNG", "WEBP")
CATEGORIES = ("checkpoint", "lora", "lycoris", "vae", "embeddings")
POPULAR = ("runware:100@1", "runware:101@1", "runware:400@1", "flux", "sdxl")
"""Offered for `--model`: asking the catalogue at each press of the tab key would take seconds."""


def offer(*values: str) -> Callable[[str], list[str]]:
    """What the shell completes a word to."""

    def complete(incomplete: str) -> list[str]:
        return [value for value in values if value.casefold().startswith(incomplete.casefold())]

    return complete


def prose(text: str) -> str:
    """Help of several paragraphs, each of which the terminal wraps."""
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in text.strip().split("\n\n"))


def examples(*lines: str) -> str:
    """The last paragraph of a command's help."""
    return "\n\n".join(["Examples:", *(f"  runware-provider {line}" for line in lines)])


Json = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]
Id = Annotated[str, typer.Argument(metavar="ID", help="A generation's id.")]
Ids = Annotated[list[str] | None, typer.Argument(metavar="ID", help="Generations' ids.")]

# What to make
Model = Annotated[
    str | None,
    typer.Option(
        "-m",
        "--model",
        metavar="MODEL",
        help=f"AIR id, or a name to search, such as flux. {MODEL} when not given.",
        autocompletion=offer(*POPULAR),
        rich_help_panel="What to make",
    ),
]
Number = Annotated[
    int | None,
    typer.Option("-n", "--number", metavar="N", min=1, max=20, help="How many images.", rich_help_panel="What to make"),
]
Size = Annotated[
    str | None,
    typer.Option(
        metavar="WxH",
        help="WIDTHxHEIGHT in pixels, such as 1024x768.",
        autocompletion=offer("512x512", "1024x1024", "1024x768", "768x1024"),
        rich_help_panel="What to make",
    ),
]
Seed = Annotated[
    int | None,
    typer.Option(metavar="N", min=0, help="The same seed makes the same image.", rich_help_panel="What to make"),
]
Negative = Annotated[
    str | None, typer.Option(metavar="TEXT", help="What not to picture.", rich_help_panel="What to make")
]
Steps = Annotated[int | None, typer.Option(metavar="N", min=1, help="Inference steps.", rich_help_panel="What to make")]
Format = Annotated[
    str | None,
    typer.Option(
        metavar="FORMAT", help="JPG, PNG or WEBP.", autocompletion=offer(*FORMATS), rich_help_panel="What to make"
    ),
]
Field = Annotated[
    list[str] | None,
    typer.Option(
        "--field", metavar="NAME=JSON", help="Any other field of Runware's, repeatable.", rich_help_panel="What to make"
    ),
]
Label = Annotated[
    list[str] | None,
    typer.Option("--label", metavar="KEY=VALUE", help="Your own label, repeatable.", rich_help_panel="What to make"),
]

# Which of what was made
_TIME = "Such as 2026-01-31T12:00Z; UTC if without zone."
OfStatus = Annotated[
    str | None,
    typer.Option("--status", metavar="STATUS", help="running, completed or failed.", autocompletion=offer(*STATUSES)),
]
OfModel = Annotated[
    str | None, typer.Option("--model", metavar="AIR", help="AIR id.", autocompletion=offer(*POPULAR[:3]))
]
OfPrompt = Annotated[str | None, typer.Option("--prompt", metavar="WORDS", help="Words that are in the prompt.")]
OfError = Annotated[
    str | None,
    typer.Option("--error", metavar="CODE", help="Error code, such as fetch_failed.", autocompletion=offer(*SHORT)),
]
OfLabel = Annotated[list[str] | None, typer.Option("--label", metavar="KEY=VALUE", help="Your own label, repeatable.")]
After = Annotated[str | None, typer.Option("--created-after", metavar="TIME", help=_TIME)]
Before = Annotated[str | None, typer.Option("--created-before", metavar="TIME", help=_TIME)]

Folder = Annotated[Path, typer.Option("--out", metavar="FOLDER", help="Folder that the images are written to.")]
