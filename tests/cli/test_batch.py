"""`batch`: what is asked for, what lies in the folder afterwards, and what is never paid for twice."""

import json
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from runware_provider.cli.batch_journal import NAME as JOURNAL
from runware_provider.simulator.pytest_plugin import ThreadedSimulator
from tests.cli.conftest import Command
from tests.e2e.processes import Finished, images_in

SMALL = ["--size", "128x128"]


def write_prompts(folder: Path, prompts: Sequence[str | dict[str, Any]], name: str = "prompts.jsonl") -> None:
    """A file of prompts."""
    given = [{"prompt": each} if isinstance(each, str) else each for each in prompts]
    (folder / name).write_text("".join(json.dumps(each) + "\n" for each in given))


def run(simulated: Command, *options: str, **settings: str) -> Finished:
    """The batch of that file."""
    return simulated("batch", "prompts.jsonl", "--out", "shots", *SMALL, *options, **settings)


def names(folder: Path) -> list[str]:
    """The files of images."""
    return [each.name for each in images_in(folder / "shots")]


def lines_of(folder: Path) -> list[dict[str, Any]]:
    """What the report says of each line."""
    report: dict[str, list[dict[str, Any]]] = json.loads((folder / "shots" / "report.json").read_text())
    return report["lines"]


def billed(simulator: ThreadedSimulator) -> int:
    """Requests that were paid for; one that was paid twice counts twice."""
    return simulator.ledger.totals.billed


def test_every_line_becomes_files_that_are_found_by_its_number(
    simulated: Command, folder: Path, runware_simulator: ThreadedSimulator
) -> None:
    """`0002-1.jpg` is the first image of line 2, its recipe lies beside it, and the report tells the rest."""
    write_prompts(folder, ["a fox", {"prompt": "a hare", "numberResults": 2, "metadata": {"order": "7"}}, "an owl"])

    finished = run(simulated, "--label", "shop=x")

    assert finished.code == 0, finished.err
    assert names(folder) == ["0001-1.jpg", "0002-1.jpg", "0002-2.jpg", "0003-1.jpg"]
    recipe = json.loads((folder / "shots" / "0002-2.json").read_text())
    assert recipe["input"]["positivePrompt"] == "a hare"
    assert (recipe["input"]["width"], recipe["model"]) == (128, "runware:101@1")
    assert recipe["sha256"] == sha256((folder / "shots" / "0002-2.jpg").read_bytes()).hexdigest()
    assert recipe["metadata"].items() >= {"order": "7", "shop": "x"}.items()
    assert "requests  3 of 3 done\n" in finished.out
    assert "images    4 in shots" in finished.out
    assert [line["line"] for line in lines_of(folder)] == [1, 2, 3]
    assert lines_of(folder)[1]["files"] == ["0002-1.jpg", "0002-2.jpg"]
    label = f"batch={recipe['metadata']['batch']}"
    assert len(simulated("list", "--label", label, "--json").json["items"]) == 3
    assert billed(runware_simulator) == 3


def test_the_same_command_again_pays_fetches_and_writes_nothing(
    simulated: Command, folder: Path, runware_simulator: ThreadedSimulator
) -> None:
    """It is how one goes on after a crash, so it must be harmless when there was none."""
    write_prompts(folder, ["a fox", "a hare"])
    run(simulated)
    before = {each: each.stat().st_mtime_ns for each in (folder / "shots").iterdir() if each.name != "report.json"}

    again = run(simulated, "--json")

    assert again.code == 0
    assert (again.json["done"], again.json["images"]) == (2, 2)
    assert "going on: 2 of 2 are done, 0 are left" in again.err
    assert before == {each: each.stat().st_mtime_ns for each in before}
    assert billed(runware_simulator) == 2


def test_a_file_that_is_gone_or_damaged_is_fetched_again_for_nothing(
    simulated: Command, folder: Path, runware_simulator: ThreadedSimulator
) -> None:
    """The service has it."""
    write_prompts(folder, ["a fox", "a hare", "an owl"])
    run(simulated)
    good = {each.name: each.read_bytes() for each in images_in(folder / "shots")}
    (folder / "shots" / "0001-1.jpg").unlink()
    (folder / "shots" / "0002-1.jpg").write_bytes(good["0002-1.jpg"][:-1] + b"x")
    (folder / "shots" / "0003-1.json").unlink()

    assert run(simulated).code == 0
    assert {each.name: each.read_bytes() for each in images_in(folder / "shots")} == good
    assert (folder / "shots" / "0003-1.json").exists()
    assert billed(runware_simulator) == 3


def test_lines_may_be_added_moved_and_taken_away(
    simulated: Command, folder: Path, runware_simulator: ThreadedSimulator
) -> None:
    """A request is known by what it asks for: only what is new is paid for, and no file is written over."""
    write_prompts(folder, ["a fox", "a hare", "an owl"])
    run(simulated)
    before = {each.name: each.read_bytes() for each in images_in(folder / "shots")}
    write_prompts(folder, ["a bear", "an owl", "a fox", "a wolf"])

    changed = run(simulated)

    after = {each.name: each.read_bytes() for each in images_in(folder / "shots")}
    assert changed.code == 0
    assert "1 of earlier runs are not asked for any more" in changed.err
    assert after.items() >= before.items()
    assert sorted(after.keys() - before.keys()) == ["0001.2-1.jpg", "0004-1.jpg"]
    assert [line["files"] for line in lines_of(folder)] == [
        ["0001.2-1.jpg"],
        ["0003-1.jpg"],
        ["0001-1.jpg"],
        ["0004-1.jpg"],
    ]
    assert billed(runware_simulator) == 5


def test_equal_lines_are_as_many_images(simulated: Command, folder: Path, runware_simulator: ThreadedSimulator) -> None:
    """Four times the same prompt is four pictures; a fifth line is one more."""
    write_prompts(folder, ["a fox"] * 4)
    run(simulated)
    write_prompts(folder, ["a fox"] * 5)

    assert run(simulated).code == 0
    assert len(names(folder)) == 5
    assert billed(runware_simulator) == 5


def test_another_folder_is_another_order(
    simulated: Command, folder: Path, runware_simulator: ThreadedSimulator
) -> None:
    """Whoever wants everything once more says so by the folder."""
    write_prompts(folder, ["a fox"])
    run(simulated)

    simulated("batch", "prompts.jsonl", "--out", "more", *SMALL)

    assert billed(runware_simulator) == 2


def test_files_that_were_there_before_are_left_alone(simulated: Command, folder: Path) -> None:
    """A folder may hold pictures of one's own, even under our names."""
    (folder / "shots").mkdir()
    (folder / "shots" / "0001-1.jpg").write_bytes(b"mine")
    write_prompts(folder, ["a fox"])

    assert run(simulated).code == 0
    assert (folder / "shots" / "0001-1.jpg").read_bytes() == b"mine"
    assert lines_of(folder)[0]["files"] == ["0001.2-1.jpg"]


def test_a_csv_with_names_of_models_is_searched_once_a_name_and_for_ever(
    simulated: Command, folder: Path, runware_simulator: ThreadedSimulator
) -> None:
    """What a name meant is kept: with another order of the catalogue all would be bought again."""
    text = "prompt,model,metadata.order\na fox,qwen-image,1\na hare,qwen-image,2\nan owl,,3\na bear,bfl:1@2,4\n"
    (folder / "prompts.csv").write_text(text)

    first = simulated("batch", "prompts.csv", "--out", "shots", *SMALL, "--model", "FLUX.1 [schnell]")
    again = simulated("batch", "prompts.csv", "--out", "shots", *SMALL, "--model", "FLUX.1 [schnell]")

    assert (first.code, again.code) == (0, 0), first.err
    assert first.err.count("model runware:108@1, Qwen-Image") == 1
    assert "model runware" not in again.err
    models = [json.loads((folder / "shots" / f"000{row}-1.json").read_text())["model"] for row in (2, 3, 4, 5)]
    assert runware_simulator.ledger.totals.searches == 2
    assert models == ["runware:108@1", "runware:108@1", "runware:100@1", "bfl:1@2"]
    assert billed(runware_simulator) == 4


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ({"prompt": "a fox", "width": "wide"}, "prompts.jsonl, line 3: width"),
        ({"prompt": "a fox", "model": "no such model"}, "model in prompts.jsonl: no model is called 'no such model'"),
    ],
)
def test_nothing_is_spent_before_the_whole_file_is_right(
    simulated: Command, folder: Path, runware_simulator: ThreadedSimulator, line: dict[str, Any], words: str
) -> None:
    """Exit code 2, and the line."""
    write_prompts(folder, ["a fox", "a hare", line])

    finished = run(simulated)

    assert (finished.code, finished.out) == (2, "")
    assert words in finished.err
    assert billed(runware_simulator) == 0


def test_what_fails_is_told_by_its_line_and_bought_anew_only_when_told_to(
    simulated: Command, folder: Path, runware_simulator: ThreadedSimulator
) -> None:
    """A failure may have cost money, so the same command leaves it; --retry-failed asks under a new key."""
    write_prompts(folder, ["a fox", "a hare", "an owl"])
    runware_simulator.stage(
        {"on": "task", "do": "error", "code": "inferenceError", "message": "No [/way].", "prompt": "hare"}
    )

    failed = run(simulated)
    runware_simulator.stage()
    left = run(simulated)
    tasks = billed(runware_simulator)
    retried = run(simulated, "--retry-failed")

    assert (failed.code, left.code, retried.code) == (1, 1, 0)
    for finished in (failed, left):
        assert "requests  2 of 3 done, 1 failed" in finished.out
        assert "line 2  Runware says: No [/way]." in finished.out
        assert "costs money, add --retry-failed" in finished.out
    assert tasks == 3
    assert billed(runware_simulator) == 4
    assert "3 of 3 done" in retried.out
    assert len(names(folder)) == 3


def test_what_runware_has_made_is_retried_for_nothing(
    simulated: Command, folder: Path, runware_simulator: ThreadedSimulator
) -> None:
    """The CDN was down: the images are paid for, and --retry-failed fetches them."""
    write_prompts(folder, ["a fox", "a hare"])
    runware_simulator.stage({"on": "cdn", "do": "status", "status": 503})
    failed = run(simulated, RUNWARE_PROVIDER_STORE_PATIENCE="0.2s")
    runware_simulator.stage()

    retried = run(simulated, "--retry-failed")

    assert failed.code == 1
    assert "the image could not be fetched: HTTP 503" in failed.out
    assert retried.code == 0, retried.out
    assert billed(runware_simulator) == 2


def test_what_comes_late_is_found_by_the_same_command(
    simulated: Command, folder: Path, runware_simulator: ThreadedSimulator
) -> None:
    """The service has gone on trying meanwhile."""
    write_prompts(folder, ["a fox"])
    runware_simulator.stage({"on": "cdn", "do": "status", "status": 503})
    assert run(simulated, RUNWARE_PROVIDER_STORE_PATIENCE="0.2s").code == 1
    runware_simulator.stage()
    id = simulated("list", "--json").json["items"][0]["id"]
    assert simulated("retry", id).code == 0

    assert run(simulated).code == 0
    assert names(folder) == ["0001-1.jpg"]


def test_a_request_that_runware_refuses_does_not_hold_up_the_others(simulated: Command, folder: Path) -> None:
    """One line of a thousand is wrong in a way that only Runware knows."""
    write_prompts(folder, ["a fox", {"prompt": "a hare", "width": 7}, "an owl"])

    finished = run(simulated)

    assert finished.code == 1
    assert names(folder) == ["0001-1.jpg", "0003-1.jpg"]
    assert "line 2  Runware refused the request" in finished.out


def test_the_budget_ends_a_batch_that_can_go_on_tomorrow(
    simulated: Command, folder: Path, runware_simulator: ThreadedSimulator
) -> None:
    """Exit code 75: what was sent is finished, nothing more is sent, and more money is all that it takes."""
    write_prompts(folder, [f"fox {number}" for number in range(30)])

    stopped = run(simulated, "--in-flight", "4", RUNWARE_PROVIDER_DAILY_BUDGET="0.05")
    paid = billed(runware_simulator)
    went_on = run(simulated)

    assert stopped.code == 75
    assert 0 < paid < 30
    assert f"{paid} of 30 done, {30 - paid} open" in stopped.out
    assert "stopped: " in stopped.err
    assert "budget" in stopped.err
    assert "the same command goes on from here, and pays for nothing twice" in stopped.err
    assert went_on.code == 0
    assert billed(runware_simulator) == 30


def test_what_would_refuse_every_request_stops_the_batch(
    simulated: Command, folder: Path, runware_simulator: ThreadedSimulator
) -> None:
    """A wrong key refuses the first; a thousand more refusals would tell nothing. With the right key it goes on."""
    write_prompts(folder, [f"fox {number}" for number in range(30)])

    stopped = run(simulated, "--in-flight", "2", RUNWARE_API_KEY="wrong-key-of-mine")
    went_on = run(simulated)

    assert stopped.code == 75
    assert "RUNWARE_API_KEY" in stopped.err
    assert "wrong-key-of-mine" not in stopped.err
    assert "0 of 30 done, 30 open" in stopped.out
    assert went_on.code == 0, went_on.out
    assert billed(runware_simulator) == 30


def test_without_a_key_it_is_the_setting_that_is_named(simulated: Command, folder: Path) -> None:
    """Exit code 2, as for every command."""
    write_prompts(folder, ["a fox"])

    finished = run(simulated, RUNWARE_API_KEY="")

    assert finished.code == 2
    assert "RUNWARE_API_KEY is not set" in finished.err


def test_a_service_that_is_full_is_waited_for(
    simulated: Command, folder: Path, runware_simulator: ThreadedSimulator
) -> None:
    """MAX_IN_FLIGHT is for all who use the service; a batch takes what is free."""
    write_prompts(folder, ["a fox", "a hare", "an owl", "a bear"])

    finished = run(simulated, RUNWARE_PROVIDER_MAX_IN_FLIGHT="2")

    assert finished.code == 0, finished.err
    assert billed(runware_simulator) == 4


def test_a_journal_that_is_damaged_is_not_guessed(simulated: Command, folder: Path) -> None:
    """It says what was paid for. Half a line at its end is only what a crash leaves, and is cut off."""
    write_prompts(folder, ["a fox", "a hare"])
    run(simulated)
    journal = folder / "shots" / JOURNAL
    good = journal.read_bytes()

    journal.write_bytes(good + b'{"key": "x')
    torn = run(simulated)
    mended = journal.read_bytes()
    journal.write_bytes(good.replace(b'"done"', b'"done', 1))
    damaged = run(simulated)
    journal.write_bytes(b"mine\n")
    foreign = run(simulated)

    assert (torn.code, mended) == (0, good)
    for finished in (damaged, foreign):
        assert (finished.code, finished.out) == (2, "")
        assert "is damaged" in finished.err
        assert "another folder as --out" in finished.err
    assert journal.read_bytes() == b"mine\n"


def test_a_journal_has_a_limit(simulated: Command, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is larger than any batch could have written is something else."""
    write_prompts(folder, ["a fox"])
    run(simulated)
    monkeypatch.setattr("runware_provider.cli.batch_journal.MAX_BYTES", 100)

    finished = run(simulated)

    assert finished.code == 2
    assert "is larger than any journal" in finished.err


def test_a_thousand_failures_are_not_told_one_by_one(simulated: Command, folder: Path) -> None:
    """Twenty, and where the rest is."""
    write_prompts(folder, [{"prompt": f"fox {number}", "width": 7} for number in range(25)])

    finished = run(simulated)

    assert finished.out.count("Runware refused the request") == 20
    assert "and 5 more, in shots/report.json" in finished.out
    assert [line["status"] for line in lines_of(folder)] == ["failed"] * 25


def test_what_the_journal_lost_is_not_paid_for_again(
    simulated: Command, folder: Path, runware_simulator: ThreadedSimulator
) -> None:
    """Its first line is synced before anything is sent; the others may be lost with the power: keys stay the same."""
    write_prompts(folder, ["a fox", "a fox", "a hare"])
    run(simulated)
    journal = folder / "shots" / JOURNAL
    journal.write_bytes(journal.read_bytes().splitlines(keepends=True)[0])

    finished = run(simulated)

    assert finished.code == 0
    assert "3 of 3 done" in finished.out
    assert billed(runware_simulator) == 3


def test_a_folder_is_for_one_batch_at_a_time(simulated: Command, folder: Path) -> None:
    """Two that write one journal would not know of each other's money."""
    import fcntl

    write_prompts(folder, ["a fox"])
    (folder / "shots").mkdir()
    with (folder / "shots" / JOURNAL).open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        finished = run(simulated)

    assert finished.code == 2
    assert "another batch is at work in --out shots" in finished.err


def test_what_was_deleted_is_said_to_be(simulated: Command, folder: Path, runware_simulator: ThreadedSimulator) -> None:
    """Whoever deletes an image on purpose does not want it bought again by the next run."""
    write_prompts(folder, ["a fox"])
    run(simulated)
    id = lines_of(folder)[0]["generation_id"]
    simulated("delete", id)
    (folder / "shots" / "0001-1.jpg").unlink()

    finished = run(simulated)
    anew = run(simulated, "--retry-failed")

    assert finished.code == 1
    assert "line 1  was deleted from the service" in finished.out
    assert anew.code == 0
    assert billed(runware_simulator) == 2
