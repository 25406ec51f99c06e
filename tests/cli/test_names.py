"""Models by name: an AIR id is taken as it is, anything else is searched before money is spent."""

import pytest

from runware_provider.simulator.pytest_plugin import ThreadedSimulator
from tests.cli.conftest import Command

SMALL = ["--size", "256x256", "--out", "pictures", "--json"]


@pytest.mark.parametrize(
    ("name", "air"),
    [
        ("runware:100@1", "runware:100@1"),
        ("FLUX.1 [schnell]", "runware:100@1"),
        ("flux.1 [SCHNELL]", "runware:100@1"),
        ("FLUX.1 Kontext [pro]", "bfl:3@1"),
        ("Qwen-Image", "runware:108@1"),
        ("qwen-image 1.0", "runware:108@1"),
    ],
)
def test_an_exact_name_wins_over_what_is_more_popular(simulated: Command, name: str, air: str) -> None:
    """`Qwen-Image` is a model of its own, though `Qwen-Image-Edit` has those words too."""
    made = simulated("generate", "a fox", "--model", name, *SMALL)

    assert made.code == 0, made.err
    assert made.json["model"] == air


def test_the_best_hit_is_taken_and_said_with_the_way_to_the_others(simulated: Command) -> None:
    """Nobody knows AIR ids by heart; and nobody is to be surprised by the price."""
    hits = simulated("models", "flux.1", "--category", "checkpoint", "--json").json

    made = simulated("generate", "a fox", "--model", "flux.1", *SMALL)

    best = hits["results"][0]
    assert made.json["model"] == best["air"]
    others = hits["total_results"] - 1
    assert made.err == (
        f"model {best['air']}, {best['name']} as the best hit; {others} others: runware-provider models flux.1\n"
    )


def test_an_air_id_is_not_searched(simulated: Command) -> None:
    """It may be private, new, or not in the catalogue at all."""
    made = simulated("generate", "a fox", "--model", "acme:7@7", *SMALL)

    assert (made.json["model"], made.err) == ("acme:7@7", "")


@pytest.mark.parametrize("name", ["no such model", " ", "x" * 300])
def test_a_name_that_nothing_has_is_an_error_before_money_is_spent(
    simulated: Command, runware_simulator: ThreadedSimulator, name: str
) -> None:
    """Exit code 2, the option's name, and where to look."""
    finished = simulated("generate", "a fox", "--model", name, *SMALL)

    assert (finished.code, finished.out) == (2, "")
    assert "--model: no model is called" in finished.err
    assert "runware-provider models" in finished.err
    assert runware_simulator.ledger.totals.billed == 0
