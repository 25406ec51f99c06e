"""`export`: every image with its recipe, checked, whole or not at all."""

import json
import zipfile
from hashlib import sha256
from pathlib import Path

import pytest

from runware_provider.simulator.pytest_plugin import ThreadedSimulator
from tests.cli.conftest import Command
from tests.e2e.processes import images_in


def made(simulated: Command, prompt: str, *options: str) -> str:
    """The id of what a command made; its own files are of no interest here."""
    line = ["generate", prompt, "--size", "256x256", "--out", "own", "--json", *options]
    id: str = simulated(*line).json["id"]
    return id


def stored(folder: Path) -> list[bytes]:
    """What the service has."""
    return sorted(each.read_bytes() for each in images_in(folder / "runware-data" / "artifacts"))


def test_a_folder_gets_each_image_and_its_recipe(simulated: Command, folder: Path) -> None:
    """All that there is; the recipe's hash is the image's, and it makes the image again."""
    id = made(simulated, "a fox", "-n", "2")
    made(simulated, "a hare", "--label", "order=7")

    finished = simulated("export", "--out", "export")

    images = images_in(folder / "export")
    assert finished.code == 0, finished.err
    assert finished.out.startswith("3 images, ")
    assert " of 2 generations in export" in finished.out
    assert sorted(each.read_bytes() for each in images) == stored(folder)
    assert [each.name for each in images][:2] == [f"{id}-1.jpg", f"{id}-2.jpg"]
    for image in images:
        recipe = json.loads(image.with_suffix(".json").read_text())
        assert recipe["sha256"] == sha256(image.read_bytes()).hexdigest()
        assert recipe["recipe"] == 1
    simulated("generate", "--from", str(images[1]), "--out", "again")
    [again] = images_in(folder / "again")
    assert again.read_bytes() == images[1].read_bytes()
    assert [each for each in (folder / "export").iterdir() if each.name.startswith(".")] == []


def test_a_second_export_completes_what_is_missing(simulated: Command, folder: Path) -> None:
    """Damaged, gone, or new: the rest is not written again."""
    for prompt in ("a fox", "a hare", "an owl"):
        made(simulated, prompt)
    simulated("export", "--out", "export")
    first, second, third = images_in(folder / "export")
    good = first.read_bytes()
    first.write_bytes(good[:-1])
    second.unlink()
    untouched = third.stat().st_mtime_ns

    finished = simulated("export", "--out", "export", "--json")

    assert (finished.json["images"], finished.json["there"], finished.json["failed"]) == (2, 1, 0)
    assert first.read_bytes() == good
    assert second.exists()
    assert third.stat().st_mtime_ns == untouched


def test_a_zip_holds_what_a_folder_would(simulated: Command, folder: Path) -> None:
    """One file, which any tool opens."""
    made(simulated, "a fox", "-n", "2")
    simulated("export", "--out", "export")

    finished = simulated("export", "--out", "pictures/all.zip")

    assert finished.code == 0, finished.err
    with zipfile.ZipFile(folder / "pictures" / "all.zip") as archive:
        assert archive.testzip() is None
        found = {name: archive.read(name) for name in archive.namelist()}
    assert found == {each.name: each.read_bytes() for each in (folder / "export").iterdir()}
    assert [each.name for each in (folder / "pictures").iterdir()] == ["all.zip"]


def test_a_zip_that_is_there_is_not_written_over(simulated: Command, folder: Path) -> None:
    """Last month's export is no less worth than this one's."""
    (folder / "all.zip").write_bytes(b"mine")

    finished = simulated("export", "--out", "all.zip")

    assert finished.code == 2
    assert "--out all.zip is there already" in finished.err
    assert (folder / "all.zip").read_bytes() == b"mine"


@pytest.mark.parametrize(
    ("options", "prompts"),
    [
        (["--label", "order=7"], ["a hare"]),
        (["--prompt", "fox"], ["a fox"]),
        (["--model", "runware:100@1"], ["an owl"]),
        (["--status", "failed"], []),
        (["--error", "timeout"], []),
    ],
)
def test_filters_choose(simulated: Command, folder: Path, options: list[str], prompts: list[str]) -> None:
    """The same as the list's."""
    made(simulated, "a fox")
    made(simulated, "a hare", "--label", "order=7")
    made(simulated, "an owl", "--model", "runware:100@1")

    finished = simulated("export", "--out", "export", *options)

    recipes = [json.loads(each.read_text()) for each in (folder / "export").glob("*.json")]
    assert finished.code == 0
    assert [each["input"]["positivePrompt"] for each in recipes] == prompts
    assert prompts or finished.out == "nothing found\n"


def test_ids_choose(simulated: Command, folder: Path) -> None:
    """Named twice is once; one that is unknown is said to be, and ids beside filters are a mistake."""
    first, second = made(simulated, "a fox"), made(simulated, "a hare")
    unknown = "01a21336-19e1-75d0-a947-6b3240f125a5"

    finished = simulated("export", first, first, "--out", "export")

    assert finished.code == 0
    assert [each.stem for each in images_in(folder / "export")] == [f"{first}-1"]
    assert simulated("export", unknown, "--out", "x").code == 1
    assert "nonsense" in simulated("export", "nonsense", "--out", "x").err
    assert "ID" in simulated("export", second, "--status", "failed", "--out", "x").err
    assert not (folder / "x" / f"{second}-1.jpg").exists()


@pytest.mark.parametrize("place", ["export", "all.zip"])
def test_what_the_store_has_damaged_is_told_and_not_exported(simulated: Command, folder: Path, place: str) -> None:
    """Exit code 1 and the name; everything else comes."""
    made(simulated, "a fox", "-n", "2")
    victim = images_in(folder / "runware-data" / "artifacts")[0]
    content = bytearray(victim.read_bytes())
    content[-1] ^= 1
    victim.chmod(0o600)
    victim.write_bytes(content)

    finished = simulated("export", "--out", place)

    assert finished.code == 1
    assert "is not what was stored" in finished.err
    assert "1 images, " in finished.out
    if place == "export":
        assert len(images_in(folder / "export")) == len(list((folder / "export").glob("*.json"))) == 1
    else:
        with zipfile.ZipFile(folder / place) as archive:
            assert len(archive.namelist()) == 2


def test_what_is_damaged_is_not_told_without_end(
    simulated: Command, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bucket may be lost as a whole."""
    monkeypatch.setattr("runware_provider.cli.export.COMPLAINTS", 1)
    made(simulated, "a fox", "-n", "3")
    for victim in images_in(folder / "runware-data" / "artifacts"):
        victim.chmod(0o600)
        victim.write_bytes(b"x" * victim.stat().st_size)

    finished = simulated("export", "--out", "export")

    assert finished.code == 1
    assert finished.err.count("is not what was stored") == 1
    assert "3 could not be exported; the first 1 are told above" in finished.err


def test_a_zip_whose_export_is_broken_off_is_not_there(
    simulated: Command, folder: Path, runware_simulator: ThreadedSimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever finds the file finds all of it."""
    made(simulated, "a fox")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(zipfile.ZipFile, "write", full)
    finished = simulated("export", "--out", "zips/all.zip")

    assert finished.code == 1
    assert "No space left on device" in finished.err
    assert list((folder / "zips").iterdir()) == []


@pytest.mark.parametrize("place", ["file/export", "file/all.zip", "/proc/x"])
def test_a_place_that_cannot_be_written_is_named(simulated: Command, folder: Path, place: str) -> None:
    """Exit code 2, by the option's name."""
    (folder / "file").write_text("mine")

    finished = simulated("export", "--out", place)

    assert finished.code == 2
    assert "--out" in finished.err
