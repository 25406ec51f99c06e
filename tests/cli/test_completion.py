"""Help and completion: what a shell asks at every press of a key, and what a stranger reads first."""

import os
import re
import subprocess
import sys

import pytest
from rich.cells import cell_len

from runware_provider.cli.app import app
from tests.e2e.processes import COMMAND

NAMES = sorted(
    command.name or command.callback.__name__.replace("_", "-")
    for group in app.registered_groups
    if group.typer_instance is not None
    for command in group.typer_instance.registered_commands
    if command.callback is not None
)


def asked(shell: str, line: str) -> list[str]:
    """What the shell is offered for the last word of a line."""
    words = line.split(" ")
    environ = {
        **os.environ,
        "_RUNWARE_PROVIDER_COMPLETE": f"complete_{shell}",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(words) - 1),
        "_TYPER_COMPLETE_ARGS": line,
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
        "_TYPER_COMPLETE_WORD_TO_COMPLETE": words[-1],
    }
    finished = subprocess.run([str(COMMAND)], env=environ, capture_output=True, text=True, timeout=30, check=True)
    assert finished.stderr == ""
    return finished.stdout.split()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_gets_its_script(shell: str) -> None:
    """`--install-completion` writes it where that shell looks."""
    environ = {**os.environ, "_RUNWARE_PROVIDER_COMPLETE": f"source_{shell}"}

    finished = subprocess.run([str(COMMAND)], env=environ, capture_output=True, text=True, timeout=30, check=True)

    assert "_RUNWARE_PROVIDER_COMPLETE" in finished.stdout
    assert finished.stderr == ""


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("runware-provider ba", ["batch"]),
        ("runware-provider list --status ", ["running", "completed", "failed"]),
        ("runware-provider list --error sto", ["storage_failed"]),
        ("runware-provider generate --format W", ["WEBP"]),
        ("runware-provider generate --model fl", ["flux"]),
        ("runware-provider models --category l", ["lora", "lycoris"]),
        ("runware-provider export --st", ["--status"]),
    ],
)
def test_words_are_completed(line: str, offered: list[str]) -> None:
    """Commands, options, and values that are always the same."""
    assert asked("bash", line) == offered
    assert asked("fish", line)[: len(offered)] == offered


@pytest.mark.parametrize("arguments", [["--help"], ["generate", "--help"], []], ids=["help", "generate", "completion"])
def test_neither_help_nor_completion_imports_the_heavy_world(arguments: list[str]) -> None:
    """Half a second at every press of the tab key would make it useless."""
    environ = dict(os.environ)
    if not arguments:
        environ |= {
            "_RUNWARE_PROVIDER_COMPLETE": "complete_bash",
            "COMP_WORDS": "runware-provider list --status c",
            "COMP_CWORD": "3",
        }
    finished = subprocess.run(
        [sys.executable, "-X", "importtime", str(COMMAND), *arguments],
        env=environ,
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )

    assert finished.stdout
    imported = {line.rpartition("|")[2].strip() for line in finished.stderr.splitlines()}
    assert not imported & {"runware_provider.errors", "aiohttp", "asyncio", "sqlalchemy", "fastapi", "uvloop"}


@pytest.mark.parametrize("columns", [60, 80])
@pytest.mark.parametrize("name", ["", *NAMES])
def test_help_reads_well_on_any_terminal(name: str, columns: int) -> None:
    """Nothing is cut or wider than the terminal; every option says what it is for."""
    environ = {**os.environ, "COLUMNS": str(columns), "TERMINAL_WIDTH": str(columns)}

    finished = subprocess.run(
        [str(COMMAND), *name.split(), "--help"], env=environ, capture_output=True, text=True, timeout=30, check=True
    )

    assert "…" not in finished.stdout
    assert all(cell_len(line) <= columns for line in finished.stdout.splitlines())
    words = finished.stdout.split("\n\n")[0]
    assert words.startswith(f"runware-provider {name}".strip())
    assert "<" not in finished.stdout
    for line in finished.stdout.splitlines():
        assert not re.fullmatch(r"  -\S+", line), f"{line} does not say what it is for"
