"""When the register wants to be woken."""

from datetime import datetime, timedelta
from itertools import pairwise
from uuid import uuid5

import pytest

from runware_provider.schedule import LATE_ASKS, Policy, backoff, next_ask
from tests.builders import DEADLINE, ID, NOW, at

MINUTE = timedelta(minutes=1)
SECOND = timedelta(seconds=1)
END = NOW + DEADLINE


def asks(
    count: int,
    *,
    start: datetime = NOW,
    policy: Policy | None = None,
    unknown: bool = False,
    told: bool = False,
) -> list[float]:
    """The first `count` times, in seconds after the beginning, at which Runware is asked from `start` on."""
    times: list[float] = []
    now = start
    for _ in range(count):
        due = next_ask(now, since=NOW, deadline=END, policy=policy or Policy(), unknown=unknown, told=told)
        if due is None:
            break
        assert due > now
        times.append((due - NOW).total_seconds())
        now = due
    return times


# Backoff


def test_a_wait_doubles_up_to_its_cap() -> None:
    """Spread by at most a quarter either way."""
    for attempt in range(1, 40):
        exact = min(MINUTE, timedelta(seconds=2 ** (attempt - 1)))

        wait = backoff(attempt, cap=MINUTE, seed=ID)

        assert exact * 0.75 <= wait <= exact * 1.25


def test_a_wait_is_the_same_for_the_same_register() -> None:
    """The spread comes from the id: a register that is played again waits the same time."""
    assert backoff(3, cap=MINUTE, seed=ID) == backoff(3, cap=MINUTE, seed=ID)


def test_many_generations_do_not_come_back_at_once() -> None:
    """When Runware refused a thousand at the same moment, they return spread out."""
    waits = {backoff(6, cap=MINUTE, seed=uuid5(ID, str(number))) for number in range(100)}

    assert len(waits) > 90
    assert max(waits) - min(waits) > timedelta(seconds=10)


@pytest.mark.parametrize(
    ("wish", "expected"),
    [
        (timedelta(seconds=30), timedelta(seconds=30)),
        (timedelta(minutes=59), timedelta(minutes=59)),
        (timedelta(days=9), timedelta(hours=1)),
    ],
)
def test_a_wish_is_followed_up_to_an_hour(wish: timedelta, expected: timedelta) -> None:
    """A `Retry-After` of a year is no reason to wait a year."""
    assert expected == backoff(1, cap=MINUTE, seed=ID, wish=wish)


@pytest.mark.parametrize("wish", [None, timedelta(0), timedelta(seconds=-5), timedelta(milliseconds=1)])
def test_a_wish_never_shortens_the_wait(wish: timedelta | None) -> None:
    """`Retry-After: 0` in a loop would be a flood."""
    assert backoff(5, cap=MINUTE, seed=ID) == backoff(5, cap=MINUTE, seed=ID, wish=wish)


def test_the_attempt_number_may_be_huge() -> None:
    """A day of trying, and more."""
    assert backoff(2**31, cap=MINUTE, seed=ID) <= 1.25 * MINUTE


# Asking


def test_polling_starts_after_a_second_and_slows_to_ten() -> None:
    """Runware's advice: 1 s, then ×1.5 up to every 10 s."""
    poll = Policy(delivery="poll")

    assert asks(8, policy=poll) == [1, 2.5, 4.75, 8.125, 13.1875, 20.78125, 30.78125, 40.78125]


def test_with_webhooks_a_missed_one_is_looked_for_well_before_the_deadline() -> None:
    """After 30 s, then doubling, and at the deadline itself."""
    assert asks(5) == [30, 90, 210, 450, 900]


def test_after_the_deadline_asking_goes_on_until_it_is_answered() -> None:
    """A verdict needs an answer, however long that takes: soon at first, then each minute."""
    times = asks(400, start=END)

    gaps = [round(later - earlier, 3) for earlier, later in pairwise(times)]
    assert times[0] == 902
    assert gaps == sorted(gaps)
    assert gaps[-1] == 60
    assert len(times) == 400


def test_an_unknown_outcome_is_asked_for_from_five_seconds_on_and_when_patience_ends() -> None:
    """It must be settled the moment that it may be, not at the next convenient point."""
    times = asks(7, unknown=True)

    assert times == [5, 15, 35, 75, 120, 125, 132.5]


def test_the_end_of_patience_follows_the_setting() -> None:
    """Whatever the operator's patience is."""
    times = asks(6, unknown=True, policy=Policy(patience=timedelta(seconds=40)))

    assert 40 in times


def test_once_told_the_client_asking_goes_on_for_a_day() -> None:
    """At the deadline, after 1 h, 6 h and 24 h, then no more."""
    expected = [(DEADLINE + late).total_seconds() for late in LATE_ASKS]

    assert expected == asks(10, told=True)
    assert expected == [900, 4_500, 22_500, 87_300]


@pytest.mark.parametrize("unknown", [False, True])
def test_a_clock_that_was_set_back_does_not_stop_the_asking(unknown: bool) -> None:
    """A service that starts with a clock an hour behind asks soon, not in an hour."""
    before = at(-3_600)

    due = next_ask(before, since=NOW, deadline=END, policy=Policy(), unknown=unknown, told=False)

    assert due is not None
    assert timedelta(0) < due - before <= timedelta(seconds=30)


@pytest.mark.parametrize("unknown", [False, True])
@pytest.mark.parametrize("delivery", ["poll", "webhook"])
def test_the_next_time_is_always_later(delivery: str, unknown: bool) -> None:
    """An alarm that is due at once again would spin; microseconds are where rounding bites."""
    policy = Policy(delivery="poll" if delivery == "poll" else "webhook")
    now = NOW
    for step in range(2_000):
        due = next_ask(now, since=NOW, deadline=END, policy=policy, unknown=unknown, told=False)

        assert due is not None
        assert due > now
        now = due + timedelta(microseconds=step % 3)
