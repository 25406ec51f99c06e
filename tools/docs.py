"""Writes what is generated: pages of docs/reference, SQLite's migrations. `--check` says what is out of date, and fails."""

import inspect
import sys
import tempfile
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, get_args

import typer
from pydantic import BaseModel, ByteSize

from runware_provider import errors
from runware_provider.api import GUARDED, create_app
from runware_provider.cli.app import app as command
from runware_provider.projection.migrate import MADE, write_migrations
from runware_provider.settings import Settings, variable

REFERENCE = Path(__file__).parent.parent / "docs" / "reference"
NOTE = "<!-- Made by `make docs`; do not edit. -->\n\n"


def settings() -> str:
    """Every setting with its default."""
    lines = [
        "# Settings",
        "",
        "From the environment, or from `runware-provider.toml` in the working directory, in lower case without the",
        "prefix; the environment wins. A name that is not known stops the start. Times are written `90s`, `15m`, `24h`,",
        "sizes `64MiB`.",
        "",
        "| variable | default | what |",
        "| --- | --- | --- |",
    ]
    for name, field in Settings.model_fields.items():
        lines.append(f"| `{variable(name)}` | {_default(field.default)} | {field.description} |")
    return "\n".join(lines) + "\n"


def _default(value: Any) -> str:
    match value:
        case None | ():
            return "–"
        case timedelta():
            minutes, seconds = divmod(int(value.total_seconds()), 60)
            return f"`{minutes}m`" if not seconds else f"`{int(value.total_seconds())}s`"
        case ByteSize():
            return f"`{value // 1024**2}MiB`"
        case tuple():
            return f"`{','.join(value)}`"
        case _:
            return f"`{value}`"


def failures() -> str:
    """Both levels of errors."""
    lines = [
        "# Errors",
        "",
        "What goes wrong with a generation is data, on two levels: `error` of the generation, and outputs of type `error`.",
        "Both may stand beside images that succeeded.",
        "",
    ]
    for title, union in (("A generation's", errors.GenerationError), ("An output's", errors.OutputError)):
        lines += [f"## {title}", "", "| code | carries | meaning |", "| --- | --- | --- |"]
        for model in get_args(get_args(union)[0]):
            carries = ", ".join(f"`{name}`" for name in model.model_fields if name != "code")
            lines.append(f"| `{get_args(model.model_fields['code'].annotation)[0]}` | {carries} | {_first(model)} |")
        lines.append("")
    lines += [
        "## Exceptions of calls",
        "",
        "All are `RunwareProviderError`.",
        "",
        "| exception | meaning |",
        "| --- | --- |",
    ]
    lines += [
        f"| `{name}` | {_first(each)} |"
        for name, each in vars(errors).items()
        if inspect.isclass(each) and issubclass(each, errors.RunwareProviderError)
    ]
    return "\n".join(lines) + "\n"


def _first(each: type) -> str:
    return " ".join((inspect.getdoc(each) or "").split("\n\n")[0].split())


def http() -> str:
    """Every route with its answers."""
    schema = create_app(_NoContext()).openapi()  # type: ignore[arg-type]  # routes are only described
    lines = [
        "# HTTP API",
        "",
        "`/openapi.json` has the shapes; `/docs` shows them in a browser, with a script that it loads from a CDN. Errors are `application/problem+json` and name the field.",
        "With `RUNWARE_PROVIDER_CLIENT_TOKENS` set, send `Authorization: Bearer TOKEN`; without, the service answers on",
        "loopback only: 401 and 403 say so on every route of `/v1`, 413 and 431 that a body or a head is too large.",
        "",
        "| route | what | answers |",
        "| --- | --- | --- |",
    ]
    for path, methods in schema["paths"].items():
        for method, route in methods.items():
            hidden = {str(status) for status in GUARDED} if path.startswith("/v1/") else set()
            answers = ", ".join(sorted(route["responses"].keys() - hidden))
            lines.append(f"| `{method.upper()} {path}` | {route['summary']} | {answers} |")
    return "\n".join(lines) + "\n"


class _Secret(BaseModel):
    max_body_bytes: int = 1
    client_tokens: tuple[str, ...] = ()


class _NoContext:
    """Enough of a context to describe routes."""

    settings = _Secret()


def commands() -> str:
    """Every command with its options."""
    group: Any = typer.main.get_command(command)
    lines = [
        "# Command",
        "",
        "`runware-provider COMMAND --help` says the same. Commands find the process that owns the data directory and speak",
        "to it, or own it for a moment themselves; the output is the same. Exit codes: 0 done, 1 the job failed, 2 wrong",
        "usage, input or setting, 75 try again later, 130 interrupted.",
        "",
        "`runware-provider --install-completion` completes commands, options and values in bash, zsh and fish.",
        "",
    ]
    for name, each in group.commands.items():
        lines += [f"## {name}", "", _paragraph(each.help), "", "| parameter | default | what |", "| --- | --- | --- |"]
        for parameter in each.params:
            if parameter.name == "help":
                continue
            shown = (
                f"`{parameter.opts[-1]}`" if parameter.param_type_name == "option" else f"`{parameter.name.upper()}`"
            )
            default = "–" if parameter.default in _NOTHING or callable(parameter.default) else f"`{parameter.default}`"
            lines.append(f"| {shown} | {default} | {getattr(parameter, 'help', None) or ''} |")
        lines.append("")
        if each.epilog:
            lines += ["```console", *(f"$ {line.strip()}" for line in each.epilog.split("\n\n")[1:]), "```", ""]
    return "\n".join(lines)


def _paragraph(text: str | None) -> str:
    return " ".join((text or "").split())


_NOTHING: tuple[Any, ...] = (None, False, "", ())

PAGES: dict[str, Callable[[], str]] = {
    "settings.md": settings,
    "errors.md": failures,
    "http.md": http,
    "command.md": commands,
}


def migrations() -> dict[Path, str]:
    """SQLite's migrations, as D1's tools take them too."""
    with tempfile.TemporaryDirectory() as folder:
        return {MADE / file.name: file.read_text() for file in write_migrations(Path(folder))}


def main() -> int:
    """Write or check all of it."""
    stale = []
    for file, text in ({REFERENCE / name: NOTE + make() for name, make in PAGES.items()} | migrations()).items():
        if file.exists() and file.read_text() == text:
            continue
        stale.append(file.name)
        if "--check" not in sys.argv:
            file.parent.mkdir(exist_ok=True)
            file.write_text(text)
    if "--check" in sys.argv and stale:
        print(f"out of date: {', '.join(stale)}; run `make docs`")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
