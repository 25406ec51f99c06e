"""`list` for scripts: CSV as RFC 4180 has it, and all pages at once."""

import csv
import io
import json
from pathlib import Path

import pytest

from tests.cli.conftest import Command

SMALL = ["--size", "256x256", "--out", "pictures", "--json"]
HOSTILE = 'a "fox",\r\nand ; a=hare\t[/red] \x1b[2J'


def made(simulated: Command, prompt: str, *options: str) -> str:
    """The id of what a command made."""
    id: str = simulated("generate", prompt, *SMALL, *options).json["id"]
    return id


def test_csv_is_what_a_spreadsheet_reads(simulated: Command) -> None:
    """A header, lines that end with CR LF, quotes where they belong, and every character as it was."""
    id = made(simulated, HOSTILE, "-n", "2", "--label", "order=4711")

    text = simulated("list", "--csv").out

    [row] = csv.DictReader(io.StringIO(text, newline=""))
    assert text.startswith("id,created_at,completed_at,status,error_code,model,prompt,expected,stored,failed,")
    assert text.endswith("\r\n")
    assert (row["id"], row["prompt"]) == (id, HOSTILE)
    assert (row["status"], row["expected"], row["stored"], row["failed"]) == ("completed", "2", "2", "0")
    assert int(row["cost_micros"]) == simulated("list", "--json").json["items"][0]["cost_micros"]
    assert json.loads(row["labels"]) == {"order": "4711"}


def test_an_empty_list_is_a_header(command: Command) -> None:
    """A script finds its columns."""
    assert command("list", "--csv").out.count("\r\n") == 1
    assert command("list", "--csv", "--all").out == command("list", "--csv").out


def test_all_pages_are_one_document(simulated: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """As CSV with one header, as JSON that parses; of which never more than a page is in memory."""
    monkeypatch.setattr("runware_provider.cli.listing.LARGEST", 2)
    ids = [made(simulated, f"fox {number}") for number in range(5)][::-1]

    rows = list(csv.DictReader(io.StringIO(simulated("list", "--csv", "--all").out)))
    document = simulated("list", "--json", "--all").json
    page = simulated("list", "--csv", "--limit", "2")

    assert [row["id"] for row in rows] == ids
    assert [item["id"] for item in document["items"]] == ids
    assert document["next_cursor"] is None
    assert page.out.count("\r\n") == 3
    assert "more: --cursor" in page.err


def test_all_of_nothing_is_valid_json(command: Command) -> None:
    """An empty list is a list."""
    assert command("list", "--json", "--all").json == {"items": [], "next_cursor": None}


@pytest.mark.parametrize(("options", "named"), [(["--csv", "--json"], "--csv"), (["--all"], "--all")])
def test_forms_that_do_not_go_together_are_refused(
    command: Command, folder: Path, options: list[str], named: str
) -> None:
    """Exit code 2, the option's name, nothing touched."""
    finished = command("list", *options)

    assert (finished.code, finished.out) == (2, "")
    assert named in finished.err
    assert list(folder.iterdir()) == []


def test_words_of_the_prompt_and_error_codes_filter(simulated: Command) -> None:
    """Also where the API's pages are short: the command's page is full when there is enough."""
    ids = [made(simulated, f"a red fox {number}") for number in range(3)]
    made(simulated, "a hare")

    found = simulated("list", "--prompt", "FOX red", "--limit", "2", "--json").json
    rest = simulated("list", "--prompt", "fox", "--cursor", found["next_cursor"], "--json").json

    assert [item["id"] for item in found["items"] + rest["items"]] == ids[::-1]
    assert simulated("list", "--error", "timeout").out == "nothing found\n"
