"""Two days of alarms, with a Runware that says nothing, or nothing new: asking is bounded, and ends when answered."""

from collections.abc import Callable
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runware_provider.errors import network_error
from runware_provider.schedule import Policy
from runware_provider.types import Accepted, Answer, Ask, Delivery, Dispatch, DispatchOutcome, Order, Refused, Unknown
from tests.builders import DEADLINE, a_delivery, a_new_generation, at, down, output_id, state_of

TWO_DAYS = timedelta(hours=48)
Ways = Literal["webhook", "poll"]
Answers = Callable[[datetime, bool], Answer | None]


def silence(_: datetime, __: bool) -> Answer | None:
    """Runware cannot be reached."""
    return None


def processing(now: datetime, details: bool) -> Answer:
    """It says the same of every task, known or not."""
    return Answer(now, Delivery(processing=True), Delivery() if details else None)


def ignorance(now: datetime, details: bool) -> Answer:
    """It knows of nothing."""
    return Answer(now, Delivery(), Delivery() if details else None)


class Lonely:
    """A generation that hears only what it asks for."""

    def __init__(self, ways: Ways, outcome: DispatchOutcome, answers: Answers, *, begins: float = 0) -> None:
        self.policy = Policy(delivery=ways)
        self.generation, orders = a_new_generation(expecting=2, policy=self.policy)
        self.now = at(begins)
        self.outcome, self.answers = outcome, answers
        self.asked: list[datetime] = []
        self.sent: list[datetime] = []
        self.take(orders)

    def take(self, orders: list[Order]) -> None:
        """Do what was ordered, at once."""
        for order in orders:
            match order:
                case Dispatch(attempt=attempt):
                    self.sent.append(self.now)
                    self.take(self.generation.record_dispatching(attempt, self.now))
                    if self.generation.register.dispatch.status == "sending":
                        self.take(self.generation.record_dispatch(attempt, self.outcome, self.now))
                case Ask(details=details):
                    self.asked.append(self.now)
                    answer = self.answers(self.now, details)
                    if answer is not None:
                        self.take(self.generation.record_response(answer, self.now))
                case _:
                    pass

    def live(self, until: timedelta = TWO_DAYS) -> bool:
        """Follow every alarm for so long; True when none is left."""
        for _ in range(20_000):
            alarm_at = self.generation.alarm_at(self.now)
            if alarm_at is None:
                return True
            if alarm_at > at() + until:
                return False
            self.now = max(self.now, alarm_at)
            self.take(self.generation.alarm(self.now))
            following = self.generation.alarm_at(self.now)
            assert following is None or following > self.now, "an alarm that is due at once again spins"
        raise AssertionError("more than 20,000 alarms in two days")


def error_of(lonely: Lonely) -> str | None:
    """The code of the generation's error."""
    error = state_of(lonely.generation).error
    return error.code if error else None


@pytest.mark.parametrize(("ways", "most"), [("webhook", 12), ("poll", 105)])
@pytest.mark.parametrize("answers", [processing, ignorance])
def test_a_task_of_which_nothing_comes_is_asked_for_a_bounded_number_of_times(
    ways: Ways, most: int, answers: Answers
) -> None:
    """Told at the deadline, asked for a day more, then left alone."""
    lonely = Lonely(ways, Accepted(), answers)

    assert lonely.live()
    assert len(lonely.asked) <= most
    assert error_of(lonely) == "timeout"
    end = at() + DEADLINE
    late = [when - end for when in lonely.asked if when > end]
    assert late[-3:] == [timedelta(hours=1), timedelta(hours=6), timedelta(hours=24)]


@pytest.mark.parametrize("ways", ["webhook", "poll"])
def test_a_runware_that_never_answers_is_asked_each_minute_and_gives_no_verdict(ways: Ways) -> None:
    """`timeout` needs an answer; that Runware is down says nothing about the images."""
    lonely = Lonely(ways, Accepted(), silence)

    assert not lonely.live()
    assert 2_800 < len(lonely.asked) < 3_000
    assert state_of(lonely.generation).status == "running"


@pytest.mark.parametrize("ways", ["webhook", "poll"])
@pytest.mark.parametrize("answers", [processing, ignorance])
def test_an_outcome_that_stays_unknown_is_sent_again_once_per_patience_until_the_deadline(
    ways: Ways, answers: Answers
) -> None:
    """Never sooner, and never after it."""
    lonely = Lonely(ways, Unknown("no answer"), answers)

    assert lonely.live()
    gaps = [later - earlier for earlier, later in pairwise(lonely.sent)]
    assert len(lonely.sent) > 2
    assert all(gap >= lonely.policy.patience for gap in gaps)
    assert lonely.sent[-1] < at() + DEADLINE
    assert (error_of(lonely), len(lonely.asked) < 80) == ("timeout", True)


def test_an_outcome_that_stays_unknown_is_never_sent_again_while_runware_is_silent() -> None:
    """It may have the task, and charge for it."""
    lonely = Lonely("webhook", Unknown("no answer"), silence)

    lonely.live()

    assert [at()] == lonely.sent


@pytest.mark.parametrize("wish", [None, timedelta(seconds=30), timedelta(days=1)])
def test_a_refusal_that_passes_is_sent_again_until_the_deadline(wish: timedelta | None) -> None:
    """Then it is told as it was: the network's error, with the attempts."""
    lonely = Lonely("webhook", Refused(network_error("down"), True, wish), silence)

    assert lonely.live()
    assert len(lonely.sent) <= 40
    assert lonely.sent[-1] < at() + DEADLINE
    assert (state_of(lonely.generation).dispatch, error_of(lonely), lonely.asked) == ("refused", "network_error", [])


@given(
    st.sampled_from(("webhook", "poll")),
    st.sampled_from([Accepted(), Unknown("no answer"), Refused(network_error("down"), True)]),
    st.sampled_from([silence, processing, ignorance]),
    st.integers(0, 10**12),
    st.lists(st.integers(1, 10**11), max_size=20),
)
@settings(max_examples=60, deadline=None, print_blob=True)
def test_alarms_that_come_late_never_spin_and_never_stop_too_soon(
    ways: Ways, outcome: DispatchOutcome, answers: Answers, begins: int, lags: list[int]
) -> None:
    """A service that was down for a day, or a loop that was busy for a microsecond."""
    lonely = Lonely(ways, outcome, answers, begins=begins / 1e6)
    for lag in lags:
        alarm_at = lonely.generation.alarm_at(lonely.now)
        if alarm_at is None:
            break
        lonely.now = max(lonely.now, alarm_at) + timedelta(microseconds=lag)
        lonely.take(lonely.generation.alarm(lonely.now))
        following = lonely.generation.alarm_at(lonely.now)
        assert following is None or following > lonely.now

    settled = lonely.live()

    assert settled or answers is silence or lonely.now > at() + TWO_DAYS
    assert not settled or state_of(lonely.generation).status == "failed"


def test_two_days_of_a_store_that_is_down_are_a_bounded_number_of_tries() -> None:
    """And of versions: each try that says the same anew is no news to the read model."""
    lonely = Lonely("webhook", Accepted(), processing)
    generation = lonely.generation
    generation.record_webhook(a_delivery("a", "b"), lonely.now)
    tries = 0
    while any(record.storing for record in generation.register.outputs.values()):
        for name in "ab":
            if generation.register.outputs[output_id(name)].storing:
                tries += 1
                generation.confirm_outputs([down(name)], lonely.now)
        alarm_at = generation.alarm_at(lonely.now)
        if alarm_at is None:
            break
        lonely.now = alarm_at
        generation.alarm(lonely.now)

    assert timedelta(hours=23) < lonely.now - at() < timedelta(hours=25)
    assert 100 < tries < 500
    assert len(generation.register.timeline) <= 64
