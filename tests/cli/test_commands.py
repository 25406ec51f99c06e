"""What each command does, and that it says the same whether a service runs or not."""

import json
import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from runware_provider.cli import commands
from runware_provider.simulator.pytest_plugin import ThreadedSimulator
from tests.cli.conftest import Command
from tests.e2e.processes import Service, World, eventually, free_port, images_in

SMALL = ["--size", "256x256", "--out", "pictures"]
UNKNOWN = "01a21336-19e1-75d0-a947-6b3240f125a5"


@pytest.fixture
def world(folder: Path, runware_simulator: ThreadedSimulator) -> Iterator[World]:
    """Where a service can run beside the commands, on the same folder."""
    environ = {
        "RUNWARE_API_KEY": "simulated",
        "RUNWARE_PROVIDER_RUNWARE_URL": runware_simulator.url,
        "RUNWARE_PROVIDER_IMAGE_HOSTS": "127.0.0.1",
    }
    with World(folder, environ) as world:
        yield world


def made(simulated: Command, *options: str) -> str:
    """The id of a generation that was made by a command."""
    finished = simulated("generate", "a lighthouse", *SMALL, "--json", *options)
    assert finished.code == 0, finished.err
    id: str = finished.json["id"]
    return id


def refuse(folder: Path) -> None:
    """Make the read model refuse artifacts."""
    with sqlite3.connect(folder / "runware-data" / "projection.db") as database:
        database.execute(
            "CREATE TRIGGER closed BEFORE INSERT ON artifacts BEGIN SELECT RAISE(ABORT, 'the table is closed'); END"
        )
    database.close()


def mend(folder: Path) -> None:
    """The opposite."""
    with sqlite3.connect(folder / "runware-data" / "projection.db") as database:
        database.execute("DROP TRIGGER closed")
    database.close()


def timeless(text: str) -> str:
    """Without what differs from one run to the next."""
    return re.sub(r"\d\d:\d\d:\d\d(\.\d+Z)?", "TIME", text)


WISHES = [
    ["reconcile"],
    ["reconcile", "--unclaimed", "--json"],
    ["reconcile", "ID"],
    ["migrate"],
    ["replay", "ID"],
    ["replay", "--all-failed"],
    ["retry", "ID"],
    ["clear", "ID"],
    ["generate", "x", "--field", "taskUUID=1"],
]
LOOKS = [
    ["list"],
    ["list", "--json"],
    ["list", "--label", "project=x"],
    ["list", "--status", "done"],
    ["show", "ID"],
    ["show", "ID", "--json"],
    ["show", UNKNOWN],
    ["show", "nonsense"],
    ["models", "flux"],
    ["models", "flux", "--json"],
]


def test_every_command_says_the_same_with_and_without_a_service(simulated: Command, world: World) -> None:
    """A command finds a free directory and opens it, or finds its owner and speaks to it: nobody must know which."""
    id = made(simulated, "-n", "2", "--label", "project=x")

    def say(lines: list[list[str]]) -> dict[str, tuple[int, str, str]]:
        said = {" ".join(line): simulated(*(id if word == "ID" else word for word in line)) for line in lines}
        return {line: (each.code, timeless(each.out), timeless(each.err)) for line, each in said.items()}

    alone = say(WISHES) | say(LOOKS)
    service = world.serve()
    together = say(LOOKS) | say(WISHES)

    assert together == alone
    assert service.get(f"/v1/generations/{id}")["counts"]["stored"] == 2


@pytest.mark.parametrize("line", [["list"], ["show", "ID"], ["models"], ["reconcile"], ["replay", "ID"], ["migrate"]])
def test_json_is_one_document_and_nothing_else(simulated: Command, line: list[str]) -> None:
    """For a parser: no progress, no hint, no colour on stdout."""
    id = made(simulated)

    finished = simulated(*(id if word == "ID" else word for word in line), "--json")

    assert finished.code == 0
    assert isinstance(json.loads(finished.out), dict)
    assert finished.err == ""


def test_a_failed_output_is_told_and_retry_brings_it(
    simulated: Command, folder: Path, runware_simulator: ThreadedSimulator
) -> None:
    """The CDN was down longer than our patience: an error that names the cause, then success at no cost."""
    runware_simulator.stage({"on": "cdn", "do": "status", "status": 503})
    failed = simulated("generate", "a lighthouse", *SMALL, RUNWARE_PROVIDER_STORE_PATIENCE="0.2s")
    runware_simulator.stage()
    id = simulated("list", "--json").json["items"][0]["id"]

    retried = simulated("retry", id)

    assert failed.code == 1
    assert "the image could not be fetched: HTTP 503" in failed.err
    assert failed.out == ""
    assert images_in(folder / "pictures") == []
    assert retried.code == 0, retried.out
    assert "1 of 1 stored, 0 failed" in retried.out
    assert simulated("list", "--json").json["items"][0]["status"] == "completed"
    assert runware_simulator.ledger.totals.billed == 1


def test_an_error_of_runwares_comes_in_runwares_words(simulated: Command, runware_simulator: ThreadedSimulator) -> None:
    """Exit code 1, and what can be done next."""
    runware_simulator.stage(
        {"on": "task", "do": "error", "code": "inferenceError", "message": "The server [1] caught [/fire]."}
    )

    failed = simulated("generate", "a lighthouse", *SMALL)

    assert failed.code == 1
    assert "Runware says: The server [1] caught [/fire]." in failed.err
    assert "runware-provider show" in failed.err


def test_a_projection_that_failed_is_replayed_when_the_database_is_mended(simulated: Command, folder: Path) -> None:
    """The images are safe: `generate` writes them, tells of the database, and `replay --all-failed` brings the rows."""
    first = made(simulated)
    refuse(folder)

    made_anyway = simulated("generate", "a boat", *SMALL, "--json")
    too_early = simulated("replay", "--all-failed")
    mend(folder)
    replayed = simulated("replay", "--all-failed", "--json")

    assert made_anyway.json["counts"]["stored"] == 1
    assert "the table is closed" in made_anyway.json["projection_error"]["message"]
    assert (too_early.code, too_early.out) == (1, "projected again: 1; still failing: 1\n")
    assert (replayed.code, replayed.json) == (0, {"replayed": 1, "projection_failed": 0})
    listed = simulated("list", "--json").json["items"]
    assert [(each["id"], each["status"]) for each in listed] == [
        (made_anyway.json["id"], "completed"),
        (first, "completed"),
    ]


def test_clear_forgets_the_failure_and_nothing_else(simulated: Command, folder: Path) -> None:
    """For the operator who knows that the database lacks this row and does not want it."""
    made(simulated)
    refuse(folder)
    id = simulated("generate", "a boat", *SMALL, "--json").json["id"]

    cleared = simulated("clear", id)

    assert cleared.code == 0
    assert "1 of 1 stored" in cleared.out
    assert "closed" not in cleared.out
    assert simulated("replay", "--all-failed").out == "projected again: 0\n"


def test_what_is_deleted_is_gone_at_once(simulated: Command) -> None:
    """From the list and by its id; its images follow after the time for undoing it."""
    kept, id = made(simulated), made(simulated)

    deleted = simulated("delete", id)

    assert deleted.code == 0
    assert id in deleted.out
    assert [each["id"] for each in simulated("list", "--json").json["items"]] == [kept]
    assert simulated("show", id).code == 1
    assert simulated("delete", id).code == 1


def test_a_delete_can_be_taken_back(simulated: Command) -> None:
    """As the line that says it is deleted says; what was never there cannot."""
    id = made(simulated)

    deleted = simulated("delete", id)
    back = simulated("undelete", id)

    assert f"undelete {id}" in deleted.out
    assert back.code == 0
    assert [each["id"] for each in simulated("list", "--json").json["items"]] == [id]
    assert simulated("undelete", "01a213d7-a3fb-72ac-88a2-96baf3d558fe").code == 1


def test_reconcile_fetches_what_was_never_delivered(
    simulated: Command, world: World, runware_simulator: ThreadedSimulator
) -> None:
    """All webhooks are lost: asking now brings what the alarms would bring later."""
    runware_simulator.stage({"on": "webhook", "do": "drop"})
    service = world.serve_with_webhooks()
    id = service.create()["id"]
    eventually(lambda: runware_simulator.ledger.totals.results == 1)

    asked = simulated("reconcile")

    assert (asked.code, asked.out) == (0, "asked about 1, answered 1, changed 1\n")
    assert service.settled(id)["counts"]["stored"] == 1


def test_what_cannot_be_done_now_is_not_waited_for_without_end(
    simulated: Command, world: World, runware_simulator: ThreadedSimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The CDN hangs: after a minute without progress it is said what is left, with the code for trying again."""
    monkeypatch.setattr(commands, "STANDSTILL", 0.3)
    runware_simulator.stage({"on": "cdn", "do": "hang"})
    service = world.serve()
    service.create()
    eventually(lambda: runware_simulator.ledger.totals.cdn_hits > 0)

    reconciled = simulated("reconcile")

    assert reconciled.code == 75
    assert reconciled.out.startswith("asked about 1")
    assert "not all is done (1 left)" in reconciled.err


def test_a_delivery_to_nobody_is_kept_and_shown_by_reconcile(simulated: Command, world: World) -> None:
    """It carries a token of ours, so it may be something that was paid for."""
    from uuid import UUID

    from runware_provider.tokens import WebhookTokens

    service = world.serve(RUNWARE_PROVIDER_WEBHOOK_SECRET="a-secret")
    path = WebhookTokens(["a-secret"]).webhook_url("", UUID(UNKNOWN))
    status, _ = service.ask("POST", path, {"data": [{"imageUUID": "x"}]})

    reconciled = simulated("reconcile", "--unclaimed")

    assert status == 200
    assert "unclaimed deliveries: 0 found a home, 1 are left" in reconciled.out


def test_the_list_pages_and_filters(simulated: Command) -> None:
    """The cursor that is offered leads on, and ends."""
    ids = [made(simulated, "--label", f"number={number}") for number in range(3)]

    first = simulated("list", "--limit", "2", "--json").json
    second = simulated("list", "--limit", "2", "--cursor", first["next_cursor"], "--json").json
    labelled = simulated("list", "--label", "number=1", "--json").json

    assert [each["id"] for page in (first, second) for each in page["items"]] == ids[::-1]
    assert second["next_cursor"] is None
    assert [each["id"] for each in labelled["items"]] == [ids[1]]
    assert f"--cursor {first['next_cursor']}" in simulated("list", "--limit", "2").out
    assert simulated("list", "--model", "nobody:1@1").out == "nothing found\n"


def test_migrate_makes_the_schema_and_says_when_there_is_nothing_to_do(command: Command) -> None:
    """Twice is as good as once."""
    first, second = command("migrate"), command("migrate")

    assert (first.code, second.code) == (0, 0)
    assert first.out.startswith("applied ")
    assert second.out == "the schema is up to date\n"


def test_migrate_beside_a_running_service_does_no_harm(simulated: Command, world: World) -> None:
    """It is what a deploy script does first."""
    service = world.serve()

    assert simulated("migrate").out == "the schema is up to date\n"
    assert service.settled(service.create()["id"])["status"] == "completed"


def test_fields_are_json_or_words(simulated: Command, runware_simulator: ThreadedSimulator) -> None:
    """`--field scheduler=euler` needs no quotes, `--field steps=20` is a number; Runware's names pass through."""
    finished = simulated(
        "generate", "a lighthouse", *SMALL, "--json", "--field", "scheduler=euler", "--field", "CFGScale=3.5"
    )

    assert finished.json["input"]["scheduler"] == "euler"
    assert finished.json["input"]["CFGScale"] == 3.5


@pytest.mark.parametrize(("format", "suffix"), [("png", ".png"), ("WEBP", ".webp"), ("jpg", ".jpg")])
def test_the_format_asked_for_is_the_format_of_the_file(
    simulated: Command, folder: Path, format: str, suffix: str
) -> None:
    """The suffix comes from the bytes."""
    made(simulated, "--format", format)

    assert [each.suffix for each in images_in(folder / "pictures")] == [suffix]


def test_brackets_in_a_prompt_are_text_and_not_markup(simulated: Command) -> None:
    """Rich would take `[red]` for a colour and `[/nothing]` for a mistake."""
    prompt = "a [red]fox[/nothing] \\[bold]"
    simulated("generate", prompt, *SMALL, "--label", "a=[b]x[/c]")
    id = simulated("list", "--json").json["items"][0]["id"]

    assert prompt in simulated("list").out
    assert prompt in simulated("show", id).out
    assert "a=[b]x[/c]" in simulated("show", id).out


def test_brackets_in_a_folder_are_text_too(simulated: Command, folder: Path) -> None:
    """The name that is shown is the name of the file."""
    made = simulated("generate", "a lighthouse", "--size", "256x256", "--out", "[bold]:cat:")

    [image] = images_in(folder / "[bold]:cat:")
    assert made.out.splitlines()[1].startswith(f"{image.relative_to(folder)}  ")


def test_a_seed_of_nothing_is_a_seed(simulated: Command) -> None:
    """0 is what was asked for, and no dash."""
    id = made(simulated, "--seed", "0")

    assert re.search(r" 0 +image/jpeg", simulated("show", id).out)


def test_one_port_is_for_one_service(simulated: Command, world: World) -> None:
    """Exit code 2 and the remedy, and the directory is free again."""
    port = free_port()
    world.serve(port=port, RUNWARE_PROVIDER_DATA_DIR="other")

    for name in ("serve", "simulate"):
        finished = simulated(name, "--port", str(port))
        assert (finished.code, finished.out) == (2, "")
        assert f"cannot listen on 127.0.0.1:{port}" in finished.err
        assert "--port" in finished.err
    assert simulated("list").code == 0


def test_a_service_with_tokens_is_reached_by_commands_of_its_own_user(simulated: Command, world: World) -> None:
    """Who may read the directory may ask over its socket; the network needs a token."""
    service: Service = world.serve(RUNWARE_PROVIDER_CLIENT_TOKENS="a-token,b-token")

    assert simulated("list").code == 0
    assert service.ask("GET", "/v1/generations")[0] == 200
    assert Service(service.process, service.url, "c-token").ask("GET", "/v1/generations")[0] == 401
    assert Service(service.process, service.url).ask("GET", "/v1/generations")[0] == 401
    socket = world.data / "api.sock"
    assert socket.stat().st_mode & 0o077 == 0
