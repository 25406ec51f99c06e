"""Wrong input: a message that names what is wrong and the remedy, on stderr, and the documented exit code."""

import json
import sqlite3
from pathlib import Path

import pytest

from runware_provider.simulator.pytest_plugin import ThreadedSimulator
from tests.cli.conftest import Command

UNKNOWN = "01a21336-19e1-75d0-a947-6b3240f125a5"
KEY = {"RUNWARE_API_KEY": "simulated"}

USAGE = [
    (["generate", "x", "-n", "99"], "--number"),
    (["generate", "x", "-n", "none"], "--number"),
    (["generate", "x", "--seed", "-1"], "--seed"),
    (["generate"], "PROMPT"),
    (["generate", "x", "--size", "10"], "--size: must be WIDTHxHEIGHT, for example 1024x768, not '10'"),
    (["generate", "x", "--size", "0x0x0"], "--size"),
    (["generate", "x", "--field", "scheduler"], "--field: must be"),
    (["generate", "x", "--field", "=1"], "--field: must be"),
    (["generate", "x", "--label", "red"], "--label: must be KEY=VALUE"),
    (["generate", "x", "--nosuch"], "--nosuch"),
    (["list", "--limit", "0"], "--limit"),
    (["list", "--label", "red"], "--label: must be KEY=VALUE"),
    (["show", "nonsense"], "'nonsense' is not a generation's id; `runware-provider list` shows them"),
    (["retry", "nonsense"], "is not a generation's id"),
    (["replay", "nonsense"], "is not a generation's id"),
    (["clear", "nonsense"], "is not a generation's id"),
    (["delete", "nonsense"], "is not a generation's id"),
    (["reconcile", "nonsense"], "is not a generation's id"),
    (["replay"], "--all-failed"),
    (["replay", UNKNOWN, "--all-failed"], "--all-failed"),
    (["serve", "--port", "70000"], "--port"),
    (["serve", "--takeover-wait", "-1"], "--takeover-wait"),
    (["simulate", "--latency", "soon"], "--latency"),
    (["simulate", "--latency", "5-2"], "--latency"),
    (["simulate", "--latency=-1"], "--latency"),
    (["simulate", "--latency", "nan"], "--latency"),
    (["simulate", "--image-bytes", "10"], "--image-bytes"),
    (["simulate", "--image-bytes", "2000"], "--image-bytes"),
    (["simulate", "--error-rate", "2"], "--error-rate"),
    (["simulate", "--faults", "missing.json"], "missing.json: No such file"),
    (["nosuch"], "nosuch"),
]


@pytest.mark.parametrize(("arguments", "words"), USAGE, ids=[" ".join(arguments) for arguments, _ in USAGE])
def test_wrong_usage_is_named_before_anything_is_touched(
    command: Command, folder: Path, arguments: list[str], words: str
) -> None:
    """Exit code 2, the reason on stderr, nothing on stdout that a script could take for a result, nothing on disk."""
    finished = command(*arguments, **KEY)

    assert finished.code == 2
    assert words.lower() in finished.err.lower()
    assert finished.out == ""
    assert list(folder.iterdir()) == []


SETTINGS = [
    ({"RUNWARE_PROVIDER_COLOUR": "red"}, "RUNWARE_PROVIDER_COLOUR is not a setting; the settings are"),
    (
        {"RUNWARE_PROVIDER_DATADIR": "x"},
        "RUNWARE_PROVIDER_DATADIR is not a setting; did you mean RUNWARE_PROVIDER_DATA_DIR?",
    ),
    ({"RUNWARE_PROVIDER_CONCURRENCY": "many"}, "RUNWARE_PROVIDER_CONCURRENCY: "),
    ({"RUNWARE_PROVIDER_CONCURRENCY": "0"}, "RUNWARE_PROVIDER_CONCURRENCY: "),
    ({"RUNWARE_PROVIDER_DEADLINE": "soon"}, "RUNWARE_PROVIDER_DEADLINE: must be a time such as 90s, 15m or 24h"),
    ({"RUNWARE_PROVIDER_PUBLIC_URL": "example.com"}, "RUNWARE_PROVIDER_PUBLIC_URL: must be an http"),
    ({"RUNWARE_PROVIDER_DELIVERY": "webhook"}, "needs RUNWARE_PROVIDER_PUBLIC_URL"),
    ({"RUNWARE_PROVIDER_DELIVERY": "pigeon"}, "RUNWARE_PROVIDER_DELIVERY: "),
    ({"RUNWARE_PROVIDER_STATE_URL": "mysql://x"}, "RUNWARE_PROVIDER_STATE_URL: "),
    ({"RUNWARE_PROVIDER_ARTIFACTS_URL": "ftp://x"}, "ARTIFACTS_URL"),
    ({"RUNWARE_PROVIDER_PROJECTION_URL": "nosuch://x"}, "PROJECTION_URL"),
    ({"RUNWARE_PROVIDER_ARTIFACTS_URL": "s3://user:hunter2@bucket"}, "ARTIFACTS_URL: must not carry a user name"),
]


@pytest.mark.parametrize(("settings", "words"), SETTINGS, ids=[words[:50] for _, words in SETTINGS])
@pytest.mark.parametrize("arguments", [["list"], ["serve", "--port", "0"]], ids=" ".join)
def test_a_wrong_setting_stops_every_command(
    command: Command, arguments: list[str], settings: dict[str, str], words: str
) -> None:
    """A misspelt variable that is silently ignored costs an afternoon. Exit code 2."""
    finished = command(*arguments, **KEY, **settings)

    assert (finished.code, finished.out) == (2, "")
    assert words in finished.err


def test_the_help_that_is_named_is_that_of_the_command(command: Command) -> None:
    """One line to copy."""
    assert "see: runware-provider list --help" in command("list", "--limit", "0").err
    assert "see: runware-provider --help" in command("nosuch").err


def test_a_wrong_setting_in_the_file_is_named_with_its_file(command: Command, folder: Path) -> None:
    """The file is checked as the environment is."""
    (folder / "runware-provider.toml").write_text('datadir = "x"\n')

    finished = command("list")

    assert finished.code == 2
    assert "datadir in runware-provider.toml is not a setting; did you mean data_dir?" in finished.err


@pytest.mark.parametrize("arguments", [["list"], ["migrate"], ["serve", "--port", "0"]], ids=" ".join)
@pytest.mark.parametrize("place", ["a file", "below a file", "nowhere"])
def test_a_data_directory_that_cannot_be_used_is_named(
    command: Command, folder: Path, arguments: list[str], place: str
) -> None:
    """Exit code 2, and which setting to change."""
    (folder / "file").write_text("mine")
    places = {"a file": folder / "file", "below a file": folder / "file" / "data", "nowhere": Path("/proc/nowhere")}

    finished = command(*arguments, RUNWARE_PROVIDER_DATA_DIR=str(places[place]), **KEY)

    assert finished.code == 2
    assert "RUNWARE_PROVIDER_DATA_DIR" in finished.err
    assert (folder / "file").read_text() == "mine"


@pytest.mark.parametrize("arguments", [["generate", "x"], ["models"], ["serve", "--port", "0"]])
def test_without_a_key_whatever_needs_runware_says_so(command: Command, arguments: list[str]) -> None:
    """Trying again would not help, so it is exit code 2 and not 75."""
    finished = command(*arguments)

    assert finished.code == 2
    assert "RUNWARE_API_KEY is not set: get a key from Runware and export it" in finished.err


@pytest.mark.parametrize("arguments", [["list"], ["migrate"]], ids=" ".join)
def test_what_needs_no_runware_needs_no_key(command: Command, arguments: list[str]) -> None:
    """One may look at one's own images on a machine without the key."""
    assert command(*arguments).code == 0


@pytest.mark.parametrize("name", ["show", "retry", "replay", "clear", "delete", "reconcile"])
def test_an_unknown_id_is_said_to_be_unknown(simulated: Command, name: str) -> None:
    """Exit code 1: the usage was right, the job could not be done."""
    finished = simulated(name, UNKNOWN)

    assert (finished.code, finished.out) == (1, "")
    assert f"there is no generation {UNKNOWN}" in finished.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--status", "done"], "status"),
        (["--created-after", "yesterday"], "created_after"),
        (["--cursor", "x"], "cursor"),
    ],
)
def test_a_wrong_filter_is_named(command: Command, arguments: list[str], words: str) -> None:
    """The service answers which; the command passes it on as wrong input."""
    finished = command("list", *arguments)

    assert (finished.code, finished.out) == (2, "")
    assert words in finished.err


def test_a_wrong_key_is_the_operators_to_mend(simulated: Command, folder: Path) -> None:
    """Runware answers 401: the message names the setting, not the key, and nothing was billed or written."""
    finished = simulated("generate", "x", "--out", "pictures", RUNWARE_API_KEY="wrong-key-of-mine")

    assert (finished.code, finished.out) == (1, "")
    assert "RUNWARE_API_KEY" in finished.err
    assert "wrong-key-of-mine" not in finished.err
    assert list((folder / "pictures").iterdir()) == []


def test_a_field_that_runware_refuses_comes_back_with_runwares_own_words(simulated: Command) -> None:
    """The caller's mistake: exit code 2, the id to look it up, and Runware's error objects."""
    finished = simulated("generate", "a boat", "--field", "width=7")

    assert finished.code == 2
    assert "width" in finished.err


@pytest.mark.parametrize("field", ["taskUUID=1", "webhookURL=http://x", 'deliveryMethod="sync"'])
def test_a_reserved_field_is_refused_by_name(simulated: Command, field: str) -> None:
    """What is ours to set cannot be set by the caller; nothing is created."""
    finished = simulated("generate", "x", "--field", field)

    assert finished.code == 2
    assert field.partition("=")[0] in finished.err
    assert simulated("list").out.strip() == "no generations yet"


@pytest.mark.parametrize("out", ["file/pictures", "file", "/proc"])
def test_a_folder_that_cannot_be_written_is_named_before_money_is_spent(
    simulated: Command, folder: Path, runware_simulator: ThreadedSimulator, out: str
) -> None:
    """Images that were paid for and have nowhere to go are the worst outcome."""
    (folder / "file").write_text("mine")

    finished = simulated("generate", "a boat", "--out", out)

    assert finished.code == 2
    assert "--out" in finished.err
    assert runware_simulator.ledger.totals.billed == 0


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "not JSON"),
        ('{"rules":[{"on":"webhook","do":"vanish"}]}', "rule 1"),
        ('{"rules":[{"on":"webhook","do":"drop","often":1}]}', "often"),
        ('{"role":[]}', "role"),
    ],
)
def test_a_bad_fault_plan_is_explained(command: Command, folder: Path, content: str, words: str) -> None:
    """Which file, which rule, which key; and the file is named once."""
    (folder / "plan.json").write_text(content)

    finished = command("simulate", "--port", "0", "--faults", "plan.json")

    assert finished.code == 2
    assert words in finished.err
    assert finished.err.count("plan.json") == 1


def test_a_damaged_state_file_is_neither_opened_nor_overwritten(command: Command, folder: Path) -> None:
    """The only copy of what was paid for: a person must look at it first."""
    damaged = b"SQLite format 3\x00" + b"\xff" * 8_000
    (folder / "runware-data").mkdir()
    (folder / "runware-data" / "state.db").write_bytes(damaged)

    finished = command("list")

    assert (finished.code, finished.out) == (2, "")
    assert "state.db" in finished.err
    assert (folder / "runware-data" / "state.db").read_bytes() == damaged


def test_a_newer_state_is_left_to_the_newer_release(command: Command, folder: Path) -> None:
    """After a downgrade: refused, not damaged."""
    assert command("list").code == 0
    state = folder / "runware-data" / "state.db"
    connection = sqlite3.connect(state)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    before = state.read_bytes()

    finished = command("list")

    assert (finished.code, finished.out) == (2, "")
    assert "newer" in finished.err
    assert state.read_bytes() == before


def test_an_api_on_the_network_needs_tokens(command: Command, folder: Path) -> None:
    """Without tokens everyone who reaches the port could spend the key's money."""
    finished = command("serve", "--host", "0.0.0.0", "--port", "0", **KEY)

    assert (finished.code, finished.out) == (2, "")
    assert "RUNWARE_PROVIDER_CLIENT_TOKENS" in finished.err
    assert list(folder.iterdir()) == []


def test_json_errors_leave_stdout_to_results(simulated: Command) -> None:
    """A script that parses stdout must not meet prose there."""
    finished = simulated("show", UNKNOWN, "--json")

    assert finished.out == ""
    assert finished.code == 1


def test_a_command_without_generations_prints_valid_json(command: Command) -> None:
    """An empty list is a list."""
    assert json.loads(command("list", "--json").out) == {"items": [], "next_cursor": None}
