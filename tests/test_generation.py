"""The register's rules, one by one."""

from collections.abc import Callable
from datetime import timedelta
from uuid import UUID

import pytest

from runware_provider.errors import api_rejected, network_error, projection_failed
from runware_provider.generation import EXTRA_RESULTS, FORMER_URLS, Generation
from runware_provider.register import decode, encode
from runware_provider.schedule import Policy
from runware_provider.types import (
    Accepted,
    Ask,
    Delivery,
    Dispatch,
    ErrorOutput,
    Expire,
    Forget,
    KeepUnclaimed,
    Project,
    Purge,
    Refused,
    Result,
    StoreOutput,
    Unknown,
)
from tests.builders import (
    DEADLINE,
    ID,
    TASK,
    a_delivery,
    a_failure,
    a_generation,
    a_new_generation,
    a_result,
    an_answer,
    an_invalid,
    at,
    down,
    full,
    output_id,
    refused,
    state_of,
    stored,
)

AFTER = DEADLINE.total_seconds() + 1
TRANSIENT = Refused(network_error("down"), retryable=True)


# The dispatch


def test_a_new_generation_asks_to_be_sent_and_shown() -> None:
    """Both are committed with it, before Runware hears of it."""
    generation, orders = a_new_generation()

    assert [Dispatch(1), Project()] == orders
    assert generation.version == 1
    assert state_of(generation).dispatch == "queued"


def test_a_lease_is_given_once() -> None:
    """Whoever asks again for an attempt under way finds that its sender died: nobody knows whether it arrived."""
    generation, _ = a_new_generation()
    generation.record_dispatching(1, at())
    assert state_of(generation).dispatch == "sending"

    generation.record_dispatching(1, at(1))

    assert state_of(generation).dispatch == "unknown"


def test_a_refusal_that_passes_is_sent_again_after_a_wait() -> None:
    """Nothing was accepted, so nothing is charged; the alarm sends it again under the same taskUUID."""
    generation, _ = a_new_generation()
    generation.record_dispatching(1, at())
    generation.record_dispatch(1, TRANSIENT, at())
    due = generation.register.dispatch.retry_at
    assert due is not None

    assert [order for order in generation.alarm(due - timedelta(milliseconds=1)) if isinstance(order, Dispatch)] == []
    assert [Dispatch(2)] == generation.alarm(due)


def test_a_retry_after_is_honoured_up_to_an_hour() -> None:
    """Runware may ask for patience, but not for ever."""
    for wish, expected in ((timedelta(seconds=30), 30), (timedelta(days=9), 3600)):
        generation, _ = a_new_generation()
        generation.record_dispatching(1, at())
        generation.record_dispatch(1, Refused(network_error("busy"), True, wish), at())

        assert at(expected) == generation.register.dispatch.retry_at


def test_a_refusal_for_good_ends_the_generation() -> None:
    """Runware's own words stand at the generation; the read model hears of it."""
    generation, _ = a_new_generation()
    generation.record_projection(1, at())
    generation.record_dispatching(1, at())

    orders = generation.record_dispatch(1, Refused(api_rejected(400, [{"code": "invalidModel"}]), False), at(1))

    state = state_of(generation)
    assert [Project()] == orders
    assert (state.status, state.error and state.error.code) == ("failed", "api_rejected")
    assert generation.alarm_at(at(1)) is None


def test_an_unknown_outcome_is_sent_again_only_after_patience_and_both_answers() -> None:
    """It may have arrived. Only Runware, asked late enough in both ways, can say that it has not."""
    generation, _ = a_new_generation()
    generation.record_dispatching(1, at())
    generation.record_dispatch(1, Unknown("no answer"), at())
    nothing = Delivery()

    too_early = generation.record_response(an_answer(asked_at=at(119), details=nothing), at(130))
    one_way = generation.record_response(an_answer(asked_at=at(121)), at(131))
    late = generation.record_response(an_answer(asked_at=at(121), details=nothing), at(132))

    assert too_early == []
    assert one_way == []
    assert [Dispatch(2)] == late


def test_a_bare_processing_of_getresponse_proves_nothing() -> None:
    """Runware may say it of a task that it never had."""
    generation, _ = a_new_generation()
    generation.record_dispatching(1, at())
    generation.record_dispatch(1, Unknown("no answer"), at())

    orders = generation.record_response(an_answer(asked_at=at(121), processing=True, details=Delivery()), at(122))

    assert [Dispatch(2)] == orders


@pytest.mark.parametrize("proof", ["webhook", "row", "details", "conflict", "processing webhook", "known to details"])
def test_any_sign_of_the_task_ends_sending(proof: str) -> None:
    """What Runware has is charged; sending it again would be charged again."""
    generation, _ = a_new_generation()
    generation.record_dispatching(1, at())
    generation.record_dispatch(1, Unknown("no answer"), at())
    match proof:
        case "webhook":
            generation.record_webhook(a_delivery("a"), at(1))
        case "processing webhook":
            generation.record_webhook(a_delivery(processing=True), at(1))
        case "row":
            generation.record_response(an_answer("a", asked_at=at(1)), at(1))
        case "details":
            generation.record_response(an_answer(asked_at=at(1), details=a_delivery("a")), at(1))
        case "known to details":
            generation.record_response(an_answer(asked_at=at(1), details=Delivery(processing=True)), at(1))
        case _:
            generation.record_dispatch(1, Accepted(), at(1))

    orders = generation.record_response(an_answer(asked_at=at(200), details=Delivery()), at(200))

    assert generation.register.dispatch.status == "accepted"
    assert [order for order in orders if isinstance(order, Dispatch)] == []


def test_an_attempt_that_answers_late_still_counts_when_it_was_accepted() -> None:
    """Acceptance always counts; a late refusal of an older attempt does not."""
    generation, _ = a_new_generation()
    generation.record_dispatching(1, at())
    generation.record_dispatch(1, TRANSIENT, at())
    generation.record_dispatch(1, Refused(api_rejected(400, []), False), at(1))
    assert state_of(generation).dispatch == "queued"

    generation.record_dispatch(1, Accepted(), at(2))

    assert state_of(generation).dispatch == "accepted"


def test_what_was_not_sent_before_its_deadline_is_not_sent_any_more() -> None:
    """The client has long gone; nothing was charged."""
    generation, _ = a_new_generation()

    generation.alarm(at(AFTER))
    generation.record_dispatching(1, at(AFTER))

    state = state_of(generation)
    assert (state.dispatch, state.status, state.error and state.error.code) == ("refused", "failed", "network_error")


def test_a_result_clears_the_refusal_of_its_dispatch() -> None:
    """Runware refused and delivered all the same: what came counts."""
    generation, _ = a_new_generation()
    generation.record_dispatching(1, at())
    generation.record_dispatch(1, Refused(api_rejected(400, []), False), at())

    generation.record_webhook(a_delivery("a"), at(1))
    generation.confirm_outputs([stored("a")], at(2))

    state = state_of(generation)
    assert (state.status, state.error) == ("completed", None)


# Results


def test_a_repeated_delivery_asks_for_nothing() -> None:
    """Runware may deliver twice; we fetch and keep once."""
    generation = a_generation()
    first = generation.record_webhook(a_delivery("a"), at())
    version = generation.version

    assert [StoreOutput(output_id("a"))] == first
    assert generation.record_webhook(a_delivery("a"), at()) == []
    assert version == generation.version


def test_the_first_success_wins() -> None:
    """Success is final: what is confirmed later is somebody else's to remove."""
    generation = a_generation()
    generation.record_webhook(a_delivery("a"), at())
    generation.confirm_outputs([stored("a", content="a")], at())
    version = generation.version

    generation.confirm_outputs([stored("a", content="b"), down("a")], at(1))

    assert version == generation.version
    [output] = state_of(generation).outputs
    assert output.type == "success"
    assert stored("a", content="a").key == output.key


def test_a_generation_is_complete_when_its_slots_are_filled() -> None:
    """Not before, and then it is projected."""
    generation = a_generation(expecting=2)
    generation.record_webhook(a_delivery("a", "b"), at())
    assert generation.confirm_outputs([stored("a")], at(1)) == []
    assert state_of(generation).status == "running"

    orders = generation.confirm_outputs([stored("b")], at(2))

    assert [Project()] == orders
    assert state_of(generation).status == "completed"
    assert at(2) == state_of(generation).completed_at


def test_an_error_without_an_image_fills_no_slot_and_asks_at_once() -> None:
    """It may be about one image or about all: only getResponse knows."""
    generation = a_generation(expecting=2)

    orders = generation.record_webhook(a_delivery(a_failure("slow"), a_failure("slow")), at())

    state = state_of(generation)
    assert [Ask(TASK, details=False)] == orders
    assert (state.status, state.counts.failed, state.counts.missing, len(state.outputs)) == ("running", 0, 2, 1)


def test_slots_that_stay_empty_show_the_tasks_own_error() -> None:
    """Derived when it is read, so that a late result has nothing to undo."""
    generation = a_generation(expecting=2)
    generation.record_webhook(a_delivery("a"), at())
    generation.confirm_outputs([stored("a")], at())

    generation.record_response(an_answer("a", a_failure("nsfw"), asked_at=at(1)), at(1))

    state = state_of(generation)
    assert (state.status, state.counts.stored, state.counts.failed, state.counts.missing) == ("completed", 1, 1, 0)
    generation.record_webhook(a_delivery("b"), at(2))
    generation.confirm_outputs([stored("b")], at(3))
    assert (state_of(generation).counts.stored, state_of(generation).counts.failed) == (2, 0)


def test_an_answer_that_names_running_work_is_not_the_end() -> None:
    """Results and `processing` beside them: more is to come."""
    generation = a_generation(expecting=2)
    generation.record_response(an_answer("a", asked_at=at(1), processing=True), at(1))
    generation.confirm_outputs([stored("a")], at(2))

    assert state_of(generation).status == "running"


def test_results_that_are_fewer_than_asked_for_are_asked_for_again_later() -> None:
    """The answer said that it is over; a result that turns up later was paid for all the same."""
    generation = a_generation(expecting=2)
    generation.record_response(an_answer("a", asked_at=at(1)), at(1))
    generation.confirm_outputs([stored("a")], at(2))
    assert state_of(generation).status == "completed"

    alarm_at = generation.alarm_at(at(2))

    assert at(DEADLINE.total_seconds()) == alarm_at


def test_more_results_than_asked_for_are_kept_up_to_a_limit() -> None:
    """They were paid for. Beyond the limit they are kept as unclaimed."""
    generation = a_generation()
    names = [f"image-{number}" for number in range(EXTRA_RESULTS + 3)]

    orders = generation.record_webhook(a_delivery(*names), at())

    assert sum(isinstance(order, StoreOutput) for order in orders) == EXTRA_RESULTS + 1
    assert [order.reason for order in orders if isinstance(order, KeepUnclaimed)] == ["too_many_results"] * 2


def test_items_of_another_task_are_unclaimed() -> None:
    """The token was for this generation, the item is not."""
    generation = a_generation()

    [order] = generation.record_webhook(a_delivery(a_result("a", task=UUID(int=5))), at())

    assert isinstance(order, KeepUnclaimed)
    assert order.reason == "foreign_task"
    assert state_of(generation).outputs == []


def test_a_result_without_an_address_is_an_error_until_one_comes() -> None:
    """A provider's content filter looks like that; so does a delivery that came too soon."""
    generation = a_generation()
    generation.record_webhook(a_delivery(a_result("a", url=None)), at())
    [output] = state_of(generation).outputs
    assert output.type == "error"
    assert output.error.code == "content_rejected"

    orders = generation.record_webhook(a_delivery("a"), at(1))
    generation.confirm_outputs([stored("a")], at(2))

    assert StoreOutput(output_id("a")) in orders
    assert (state_of(generation).counts.stored, state_of(generation).counts.failed) == (1, 0)


@pytest.mark.parametrize("swapped", [False, True])
def test_two_accounts_of_one_failure_show_the_same_whichever_came_first(swapped: bool) -> None:
    """A webhook and getResponse may word it differently."""
    accounts = [a_failure("nsfw", image="a", message="zzz"), a_failure("nsfw", image="a", message="aaa")]
    generation = a_generation()
    for each in reversed(accounts) if swapped else accounts:
        generation.record_webhook(a_delivery(each), at())

    [output] = state_of(generation).outputs
    assert output.type == "error"
    assert output.error.code == "webhook_error"
    assert output.error.errors[0]["message"] == "aaa"


def test_loose_errors_and_invalid_deliveries_are_bounded() -> None:
    """Sixteen of each; a paid image still finds its place."""
    generation = a_generation()
    generation.record_webhook(a_delivery(*(a_failure(f"code-{number}") for number in range(30))), at())
    generation.record_webhook(a_delivery(*(an_invalid(f"digest-{number}") for number in range(30))), at())

    generation.record_webhook(a_delivery("a"), at())

    assert len(generation.register.outputs) == 33
    assert len(generation.register.timeline) <= 64


# Time


def test_a_timeout_needs_an_answer_asked_for_after_the_deadline() -> None:
    """Runware that cannot be reached may still have the results."""
    generation = a_generation()
    assert Ask(TASK, details=False) in generation.alarm(at(DEADLINE.total_seconds()))
    generation.record_response(an_answer(asked_at=at(AFTER - 2), processing=True), at(AFTER))
    assert state_of(generation).status == "running"

    generation.record_response(an_answer(asked_at=at(AFTER), processing=True), at(AFTER))

    state = state_of(generation)
    assert (state.status, state.error and state.error.code) == ("failed", "timeout")


def test_a_timeout_waits_for_what_is_being_stored() -> None:
    """The verdict never counts what is pending."""
    generation = a_generation(expecting=2)
    generation.record_webhook(a_delivery("a"), at())
    generation.record_response(an_answer(asked_at=at(AFTER), processing=True), at(AFTER))
    assert state_of(generation).status == "running"

    generation.confirm_outputs([stored("a")], at(AFTER + 1))

    state = state_of(generation)
    assert (state.status, state.error and state.error.code, state.counts.missing) == ("completed", "timeout", 1)


def test_results_after_the_verdict_are_kept_and_heal_it() -> None:
    """The client was told; the images were paid for."""
    generation = a_generation()
    generation.record_response(an_answer(asked_at=at(AFTER), processing=True), at(AFTER))
    generation.record_projection(generation.version, at(AFTER))

    generation.record_webhook(a_delivery("a"), at(AFTER + 60))
    orders = generation.confirm_outputs([stored("a")], at(AFTER + 61))

    state = state_of(generation)
    assert [Project()] == orders
    assert (state.status, state.error) == ("completed", None)


# Storing


def test_a_store_that_is_down_is_tried_on_and_shows_an_error_after_patience() -> None:
    """Pending at first, then an error that goes on being tried, then the image."""
    generation = a_generation()
    generation.record_webhook(a_delivery("a"), at())
    now = shown_at = at()
    while state_of(generation).status == "running":
        generation.confirm_outputs([full("a")], now)
        shown_at = now
        due = generation.register.outputs[output_id("a")].retry_at
        assert due is not None
        now = due
        assert StoreOutput(output_id("a")) in generation.alarm(now)
    assert at(120) == shown_at
    assert state_of(generation).status == "failed"

    generation.confirm_outputs([stored("a")], now)

    assert (state_of(generation).status, state_of(generation).counts.stored) == ("completed", 1)


def test_trying_ends_after_a_day() -> None:
    """Then only a person's `retry` tries it again."""
    generation = a_generation()
    generation.record_webhook(a_delivery("a"), at())
    now, tries = at(), 0
    while True:
        generation.confirm_outputs([down("a")], now)
        tries += 1
        due = generation.register.outputs[output_id("a")].retry_at
        if due is None:
            break
        assert due > now
        now = due
        generation.alarm(now)

    assert timedelta(hours=23) < now - at() <= timedelta(hours=24)
    assert tries < 250
    assert StoreOutput(output_id("a")) in generation.retry(now)


@pytest.mark.parametrize("status", [403, 404, 410])
def test_an_address_that_died_is_asked_for_anew_once(status: int) -> None:
    """Runware may give a fresh one; it is tried, and the old one is not gone back to."""
    generation = a_generation()
    generation.record_webhook(a_delivery("a"), at())
    first = generation.confirm_outputs([down("a", status=status)], at(1))
    assert Ask(TASK, details=True) in first

    fresh = "https://im.runware.ai/fresh.jpg"
    orders = generation.record_response(
        an_answer(asked_at=at(2), processing=True, details=a_delivery(a_result("a", url=fresh))), at(2)
    )

    assert StoreOutput(output_id("a")) in orders
    assert fresh == generation.register.outputs[output_id("a")].url
    assert generation.record_webhook(a_delivery("a"), at(3)) == []


def test_what_is_no_image_is_an_error_at_once() -> None:
    """It would be the same again."""
    generation = a_generation()
    generation.record_webhook(a_delivery("a"), at())

    generation.confirm_outputs([refused("a")], at(1))

    state = state_of(generation)
    assert (state.status, state.counts.failed) == ("failed", 1)
    assert generation.register.outputs[output_id("a")].retry_at is None


def test_retry_of_what_has_no_address_asks_runware() -> None:
    """It costs nothing: what was made is fetched, nothing is made anew."""
    generation = a_generation()
    generation.record_webhook(a_delivery(a_result("a", url=None)), at())

    assert [Ask(TASK, details=True)] == generation.retry(at(1))


# The read model


def test_what_happens_while_a_projection_is_under_way_is_projected_after_it() -> None:
    """One at a time, and the newest wins."""
    generation = a_generation()
    generation.record_webhook(a_delivery("a"), at())
    assert [Project()] == generation.confirm_outputs([stored("a")], at())
    projected = generation.version
    assert generation.delete(at(1)) == []

    assert [Project()] == generation.record_projection(projected, at(2))


def test_a_failed_projection_stands_beside_a_completed_generation() -> None:
    """Kept until a replay succeeds; a client sees the images meanwhile."""
    generation = a_generation()
    generation.record_webhook(a_delivery("a"), at())
    generation.confirm_outputs([stored("a")], at())
    failed = projection_failed("no such column: prompt")
    generation.set_error(failed, generation.version, at(1))
    state = state_of(generation)
    assert ("completed", failed, failed, True) == (state.status, state.error, state.projection_error, state.settled)

    assert [Project()] == generation.replay(at(2))
    generation.record_projection(generation.version, at(3))

    assert state_of(generation).projection_error is None


def test_clear_clears_the_projections_failure_alone() -> None:
    """The other level is not the operator's to clear."""
    generation = a_generation()
    generation.record_response(an_answer(asked_at=at(AFTER), processing=True), at(AFTER))
    generation.set_error(projection_failed("x"), generation.version, at(AFTER))

    generation.clear_error(at(AFTER + 1))

    state = state_of(generation)
    assert (state.projection_error, state.error and state.error.code) == (None, "timeout")


# Delete


def test_nothing_comes_back_after_a_delete() -> None:
    """Late deliveries, running stores and answers are dropped."""
    generation = a_generation(expecting=2)
    generation.record_webhook(a_delivery("a"), at())
    generation.delete(at(1))
    version = generation.version

    generation.confirm_outputs([stored("a")], at(2))
    generation.record_webhook(a_delivery("b"), at(2))
    generation.record_response(an_answer("b", asked_at=at(2)), at(2))

    assert version == generation.version
    assert [output for output in state_of(generation).outputs if output.type == "success"] == []


def test_a_delete_can_be_undone_until_the_purge() -> None:
    """What was being stored is asked for again; what came meanwhile is asked of Runware."""
    generation = a_generation(expecting=2)
    generation.record_webhook(a_delivery("a"), at())
    generation.delete(at(1))

    orders = generation.undelete(at(5))

    assert StoreOutput(output_id("a")) in orders
    assert Ask(TASK, details=True) in orders
    generation.delete(at(6))
    assert [Purge()] == generation.alarm(at(36))
    assert generation.undelete(at(37)) == []


def test_a_purge_leaves_id_task_and_times() -> None:
    """The request is emptied in the same commit."""
    generation = a_generation()
    generation.record_webhook(a_delivery("a"), at())
    generation.delete(at(1))
    generation.alarm(at(31))

    assert [Forget()] == generation.record_purge(at(32))

    state = state_of(generation)
    assert (state.input, state.metadata, state.outputs, state.model) == ({}, {}, [], None)
    assert (state.id, state.task_uuid) == (ID, TASK)
    assert generation.alarm_at(at(33)) is None


def test_a_deleted_generation_is_not_sent_any_more() -> None:
    """Nothing was spent yet, so nothing is."""
    generation, _ = a_new_generation()
    generation.delete(at())

    generation.record_dispatching(1, at(1))

    assert generation.register.dispatch.status == "queued"


# Money and keeping


def test_what_has_no_known_cost_counts_at_the_expected_price() -> None:
    """Never as nothing: the budget would not hold."""
    generation = a_generation(expecting=3, price_micros=5_000)
    assert generation.spent_micros() == 15_000

    generation.record_webhook(a_delivery(a_result("a", cost=0.0019), a_result("b", cost=None)), at())

    assert generation.spent_micros() == 1_900 + 5_000 + 5_000
    assert generation.costs_micros()[1] == 1_900


def test_what_was_refused_costs_nothing() -> None:
    """The reservation is given back."""
    generation, _ = a_new_generation(expecting=3, price_micros=5_000)
    generation.record_dispatching(1, at())

    generation.record_dispatch(1, Refused(api_rejected(400, []), False), at())

    assert generation.spent_micros() == 0


@pytest.mark.parametrize(
    ("cost", "expected"),
    [(0.0019, 1_900), (1, 1_000_000), (None, None), ("free", None), (True, None), (-1, None), (1e300, None), (0, 0)],
)
def test_a_cost_is_read_through_decimal_and_never_guessed(cost: object, expected: int | None) -> None:
    """Binary fractions of a cent would not add up; absent is unknown, never zero."""
    generation = a_generation()
    generation.record_webhook(a_delivery(a_result("a", cost=cost)), at())
    generation.confirm_outputs([stored("a")], at())

    [output] = state_of(generation).outputs
    assert output.type == "success"
    assert expected == output.cost_micros


def test_state_lets_go_of_what_is_complete_and_projected_after_retention() -> None:
    """And of nothing that is still under way."""
    generation = a_generation(policy=Policy(retention=timedelta(days=1)))
    assert timedelta(days=1) > (generation.alarm_at(at()) or at()) - at()
    generation.record_webhook(a_delivery("a"), at())
    generation.confirm_outputs([stored("a")], at(10))
    assert generation.alarm_at(at(10)) is None
    generation.record_projection(generation.version, at(11))

    day = 86_400
    assert at(10 + day) == generation.alarm_at(at(11))
    assert generation.alarm(at(9 + day)) == []
    assert [Expire()] == generation.alarm(at(10 + day))


def test_what_was_spent_stays_spent_after_a_purge() -> None:
    """Or the day's budget could be had again by deleting."""
    generation = a_generation(price_micros=5_000)
    generation.record_webhook(a_delivery("a"), at())
    generation.delete(at(1))
    generation.alarm(at(31))

    generation.record_purge(at(32))

    assert generation.spent_micros() == 1_900


@pytest.mark.parametrize("end", ["timed out", "deleted"])
def test_retention_ends_for_what_stays_incomplete_and_for_what_was_deleted(end: str) -> None:
    """After the last question, or after the purge: nothing stays for ever."""
    generation = a_generation(policy=Policy(retention=timedelta(days=1)))
    if end == "deleted":
        generation.delete(at(1))
        generation.alarm(at(31))
        generation.record_purge(at(32))
    else:
        generation.record_response(an_answer(asked_at=at(AFTER), processing=True), at(AFTER))
    generation.record_projection(generation.version, at(AFTER))
    now, orders = at(AFTER), generation.alarm(at(AFTER))
    while (due := generation.alarm_at(now)) is not None and Expire() not in orders:
        now = due
        orders = generation.alarm(now)

    assert Expire() in orders
    assert now - at() <= timedelta(days=2, minutes=16)


def test_a_register_survives_its_text() -> None:
    """With errors of both levels in it, too: a union is read by its code."""
    generation = a_generation(expecting=3)
    generation.record_webhook(a_delivery("a", a_result("b", url=None), a_failure("nsfw"), an_invalid("x")), at())
    generation.confirm_outputs([down("a", status=404)], at(1))
    generation.set_error(projection_failed("x"), generation.version, at(2))

    again = Generation(decode(encode(generation.register)), generation.policy)

    assert again.register == generation.register
    assert state_of(again) == state_of(generation)
    assert any(isinstance(output, ErrorOutput) for output in state_of(again).outputs)


# Late and contradictory words


def test_a_late_refusal_of_an_older_attempt_undoes_nothing() -> None:
    """The task is with Runware; if nobody asked any more, a lost webhook would be a lost image."""
    generation, _ = a_new_generation()
    generation.record_dispatching(1, at())
    generation.record_dispatch(1, Unknown("no answer"), at())
    generation.record_response(an_answer(asked_at=at(120), details=Delivery()), at(120))
    generation.record_dispatching(2, at(121))
    generation.record_dispatch(2, Accepted(), at(122))

    generation.record_dispatch(1, Refused(api_rejected(402, []), False), at(123))

    assert state_of(generation).dispatch == "accepted"
    assert generation.alarm_at(at(123)) is not None


PROOFS: dict[str, Callable[[Generation], object]] = {
    "an acknowledgement": lambda generation: generation.record_dispatch(1, Accepted(), at(1)),
    "a result": lambda generation: generation.record_webhook(a_delivery("a"), at(1)),
    "running work": lambda generation: generation.record_webhook(a_delivery(processing=True), at(1)),
    "known to details": lambda generation: generation.record_response(
        an_answer(asked_at=at(1), details=Delivery(processing=True)), at(1)
    ),
}


@pytest.mark.parametrize("refused_first", [False, True])
@pytest.mark.parametrize("proof", PROOFS)
def test_a_proof_that_runware_has_the_task_outweighs_a_refusal(proof: str, refused_first: bool) -> None:
    """Whichever came first: what Runware has is charged, and is asked for."""
    generation, _ = a_new_generation(expecting=2)
    generation.record_dispatching(1, at())
    calls: list[Callable[[Generation], object]] = [
        PROOFS[proof],
        lambda each: each.record_dispatch(1, Refused(api_rejected(400, []), False), at(1)),
    ]
    for call in reversed(calls) if refused_first else calls:
        call(generation)

    state = state_of(generation)
    assert (state.dispatch, state.error) == ("accepted", None)
    assert generation.alarm_at(at(1)) is not None


@pytest.mark.parametrize("refused_first", [False, True])
def test_a_refusal_outweighs_a_mere_error_of_the_task(refused_first: bool) -> None:
    """Runware may refuse and deliver the refusal as well; the client need not wait for the deadline to hear of it."""
    generation, _ = a_new_generation()
    generation.record_dispatching(1, at())
    for refuse in (refused_first, not refused_first):
        if refuse:
            generation.record_dispatch(1, Refused(api_rejected(400, [{"code": "no"}]), False), at(1))
        else:
            generation.record_webhook(a_delivery(a_failure("no")), at(1))

    state = state_of(generation)
    assert (state.dispatch, state.status, state.error and state.error.code) == ("refused", "failed", "api_rejected")


def test_a_refusal_that_is_undone_is_shown_anew() -> None:
    """The read model would keep an error that is none."""
    generation, _ = a_new_generation()
    generation.record_dispatching(1, at())
    generation.record_dispatch(1, Refused(api_rejected(400, []), False), at())
    generation.record_projection(generation.version, at())

    orders = generation.record_webhook(a_delivery(processing=True), at(1))

    assert Project() in orders


def test_an_acceptance_after_any_webhook_orders_no_dispatch() -> None:
    """Not from the queue either: a wait for the next attempt ends with the first sign of the task."""
    generation, _ = a_new_generation()
    generation.record_dispatching(1, at())
    generation.record_dispatch(1, TRANSIENT, at())
    generation.record_webhook(a_delivery(a_failure("slow")), at(1))

    orders = generation.alarm(at(600))
    generation.record_dispatching(2, at(600))

    assert [order for order in orders if isinstance(order, Dispatch)] == []
    assert state_of(generation).dispatch == "accepted"


def test_a_sender_that_is_not_heard_of_again_is_unknown_after_patience() -> None:
    """Its process may hang: the lease ends, and Runware is asked."""
    generation, _ = a_new_generation()
    generation.record_dispatching(1, at())
    assert at(120) == generation.alarm_at(at(1))
    assert generation.alarm(at(119)) == []

    orders = generation.alarm(at(120))

    assert state_of(generation).dispatch == "unknown"
    assert [Ask(TASK, details=True)] == orders


def test_a_second_unknown_attempt_needs_patience_of_its_own() -> None:
    """An answer to a question that was put before it was sent proves nothing about it."""
    generation, _ = a_new_generation()
    generation.record_dispatching(1, at())
    generation.record_dispatch(1, Unknown("no answer"), at())
    nothing = Delivery()
    assert [Dispatch(2)] == generation.record_response(an_answer(asked_at=at(120), details=nothing), at(120))
    generation.record_dispatching(2, at(121))
    generation.record_dispatch(2, Unknown("no answer"), at(125))

    late = generation.record_response(an_answer(asked_at=at(200), details=nothing), at(201))
    settled = generation.record_response(an_answer(asked_at=at(245), details=nothing), at(246))

    assert late == []
    assert [Dispatch(3)] == settled


def test_an_unknown_outcome_is_not_sent_again_after_the_deadline() -> None:
    """The verdict is a timeout then; a result that comes all the same is kept."""
    generation, _ = a_new_generation()
    generation.record_dispatching(1, at())
    generation.record_dispatch(1, Unknown("no answer"), at())

    orders = generation.record_response(an_answer(asked_at=at(AFTER), details=Delivery()), at(AFTER))

    state = state_of(generation)
    assert [order for order in orders if isinstance(order, Dispatch)] == []
    assert (state.dispatch, state.error and state.error.code) == ("unknown", "timeout")


def test_an_attempt_is_not_leased_before_its_wait_is_over() -> None:
    """A task that was left over must not shorten what Runware asked for."""
    generation, _ = a_new_generation()
    generation.record_dispatching(1, at())
    generation.record_dispatch(1, Refused(network_error("busy"), True, timedelta(seconds=30)), at())
    generation.delete(at(1))
    assert [order for order in generation.undelete(at(2)) if isinstance(order, Dispatch)] == []

    generation.record_dispatching(2, at(29))
    assert state_of(generation).dispatch == "queued"
    generation.record_dispatching(2, at(30))

    assert state_of(generation).dispatch == "sending"


def test_a_refusal_that_passes_is_final_at_the_deadline() -> None:
    """Runware's last words are the error, not that time is up."""
    generation, _ = a_new_generation()
    generation.record_dispatching(1, at())
    generation.record_dispatch(1, Refused(api_rejected(503, [{"code": "busy"}]), True, timedelta(hours=1)), at())
    assert at(DEADLINE.total_seconds()) == generation.alarm_at(at())

    generation.alarm(at(AFTER))

    state = state_of(generation)
    assert (state.dispatch, state.error) == ("refused", api_rejected(503, [{"code": "busy"}]))


# More of counting and healing


@pytest.mark.parametrize("error_first", [False, True])
def test_the_tasks_error_fills_what_is_empty_once_runware_says_it_is_over(error_first: bool) -> None:
    """Two slots of three; the error itself stands beside them and is not counted."""
    generation = a_generation(expecting=3)
    calls: list[Callable[[], object]] = [
        lambda: generation.record_webhook(a_delivery(a_failure("slow")), at(1)),
        lambda: generation.record_response(an_answer("a", a_failure("slow"), asked_at=at(2)), at(2)),
    ]
    for call in calls if error_first else reversed(calls):
        call()
    generation.confirm_outputs([stored("a")], at(3))

    state = state_of(generation)
    assert state.counts.model_dump() == {"expected": 3, "stored": 1, "failed": 2, "missing": 0}
    assert sorted(output.type for output in state.outputs) == ["error", "error", "error", "success"]
    assert len({output.id for output in state.outputs}) == 4


def test_a_timeout_is_healed_when_runware_says_that_it_is_over() -> None:
    """Its own error says more than that time was up."""
    generation = a_generation()
    generation.record_response(an_answer(asked_at=at(AFTER), processing=True), at(AFTER))

    generation.record_response(an_answer(a_failure("nsfw"), asked_at=at(AFTER + 3_600)), at(AFTER + 3_600))

    state = state_of(generation)
    assert (state.error, state.status, state.counts.failed) == (None, "failed", 1)
    assert generation.alarm_at(at(AFTER + 3_600)) is None


def test_one_late_result_of_two_leaves_the_timeout_standing() -> None:
    """It is cleared when all have arrived, not before."""
    generation = a_generation(expecting=2)
    generation.record_response(an_answer(asked_at=at(AFTER), processing=True), at(AFTER))
    for name, expected in (("a", "timeout"), ("b", None)):
        generation.record_webhook(a_delivery(name), at(AFTER + 1))
        generation.confirm_outputs([stored(name)], at(AFTER + 2))

        error = state_of(generation).error
        assert expected == (error.code if error else None)


def test_an_image_that_runware_called_failed_is_kept_when_it_comes() -> None:
    """An error is replaced by a success, never the reverse."""
    generation = a_generation()
    generation.record_webhook(a_delivery(a_failure("nsfw", image="a")), at())
    generation.record_webhook(a_delivery("a"), at(1))
    generation.confirm_outputs([stored("a")], at(2))
    version = generation.version

    generation.record_webhook(a_delivery(a_failure("nsfw", image="a"), a_result("a", url=None)), at(3))

    assert version == generation.version
    assert state_of(generation).counts.model_dump() == {"expected": 1, "stored": 1, "failed": 0, "missing": 0}


def test_an_invalid_delivery_asks_at_once_and_once() -> None:
    """It may have been a result in a shape that we do not know."""
    generation = a_generation()

    first = generation.record_webhook(a_delivery(an_invalid("x")), at())
    again = generation.record_webhook(a_delivery(an_invalid("x")), at(1))

    assert ([Ask(TASK, details=False)], []) == (first, again)


def test_an_answer_that_teaches_nothing_changes_nothing() -> None:
    """Thousands of them come: a commit each would be a load of its own."""
    generation = a_generation(expecting=2)
    generation.record_webhook(a_delivery("a"), at())
    version = generation.version

    orders = generation.record_response(an_answer("a", asked_at=at(5), processing=True), at(5))

    assert ([], version) == (orders, generation.version)


def test_addresses_of_one_image_are_bounded() -> None:
    """Runware may sign each answer anew."""
    generation = a_generation()
    for number in range(100):
        generation.record_webhook(a_delivery(a_result("a", url=f"https://im.runware.ai/{number}.jpg")), at(number))

    record = generation.register.outputs[output_id("a")]
    assert len([*record.former_urls, *record.spare_urls]) == FORMER_URLS


@pytest.mark.parametrize("good_first", [False, True])
def test_a_dead_address_does_not_hide_a_living_one(good_first: bool) -> None:
    """Whichever Runware gave first, the image is there to be had."""
    good, dead = a_result("a"), a_result("a", url="https://im.runware.ai/dead.jpg")
    generation = a_generation()
    generation.record_webhook(a_delivery(*((good, dead) if good_first else (dead, good))), at())
    for _ in range(3):
        record = generation.register.outputs[output_id("a")]
        if record.url == good.url:
            generation.confirm_outputs([stored("a")], at(1))
        else:
            generation.confirm_outputs([down("a", status=404, url=record.url)], at(1))

    assert state_of(generation).status == "completed"


def test_trying_the_next_address_is_asked_for_once() -> None:
    """A confirm may be repeated; a second task would fetch the same twice."""
    generation = a_generation()
    generation.record_webhook(a_delivery("a", a_result("a", url="https://im.runware.ai/b.jpg")), at())

    first, again = (generation.confirm_outputs([down("a", status=404)], at(1)) for _ in range(2))

    assert ([StoreOutput(output_id("a"))], []) == (first, again)


def test_retry_takes_only_what_failed() -> None:
    """What is stored, or being stored, is left alone."""
    generation = a_generation(expecting=3)
    generation.record_webhook(a_delivery("a", "b", "c"), at())
    generation.confirm_outputs([stored("a"), refused("b")], at(1))

    assert [StoreOutput(output_id("b"))] == generation.retry(at(2))
    assert generation.retry(at(2)) == []


# More of the read model


def test_a_failure_of_an_older_projection_is_told_once() -> None:
    """Its repeat would order a projection each time."""
    generation = a_generation()
    generation.record_webhook(a_delivery("a"), at())
    generation.confirm_outputs([stored("a")], at())
    failed = generation.version
    generation.delete(at(1))

    first, again = (generation.set_error(projection_failed("x"), failed, at(2)) for _ in range(2))

    assert ([Project()], []) == (first, again)


def test_a_cleared_failure_does_not_come_back_with_its_repeat() -> None:
    """Only a newer version can fail anew."""
    generation = a_generation()
    generation.record_webhook(a_delivery("a"), at())
    generation.confirm_outputs([stored("a")], at())
    failed = generation.version
    generation.set_error(projection_failed("x"), failed, at(1))
    generation.clear_error(at(2))

    generation.set_error(projection_failed("x"), failed, at(3))

    assert state_of(generation).projection_error is None


def test_a_failure_of_what_the_read_model_has_is_none() -> None:
    """A worker that was slow to fail where another succeeded."""
    generation = a_generation()
    generation.record_webhook(a_delivery("a"), at())
    generation.confirm_outputs([stored("a")], at())
    generation.record_projection(generation.version, at(1))
    version = generation.version

    generation.set_error(projection_failed("x"), version - 1, at(2))
    generation.record_projection(version - 2, at(2))

    assert (None, version) == (state_of(generation).projection_error, generation.version)


def test_a_failed_projection_is_not_retried_blindly() -> None:
    """Only a person can mend a column that is missing; but what happens next is projected."""
    generation = a_generation(expecting=2)
    generation.record_response(an_answer("a", asked_at=at()), at())
    generation.confirm_outputs([stored("a")], at())
    assert generation.set_error(projection_failed("x"), generation.version, at(1)) == []

    generation.record_webhook(a_delivery("b"), at(2))
    orders = generation.confirm_outputs([stored("b")], at(3))

    assert [Project()] == orders


# More of delete


def test_a_dispatch_that_is_answered_after_the_purge_leaves_nothing() -> None:
    """Neither the results that came with it, nor Runware's words, which may quote the prompt."""
    for outcome in (Accepted(a_delivery("a")), Refused(api_rejected(400, [{"message": "a fox"}]), False), TRANSIENT):
        generation, _ = a_new_generation()
        generation.record_dispatching(1, at())
        generation.delete(at(1))
        generation.alarm(at(31))
        generation.record_purge(at(32))
        text = encode(generation.register)

        assert generation.record_dispatch(1, outcome, at(33)) == []
        assert text == encode(generation.register)


def test_what_came_with_the_acknowledgement_of_a_deleted_generation_is_dropped() -> None:
    """Until the delete is taken back: then Runware is asked."""
    generation, _ = a_new_generation()
    generation.record_dispatching(1, at())
    generation.delete(at(1))

    orders = generation.record_dispatch(1, Accepted(a_delivery("a")), at(2))

    assert (orders, generation.register.outputs) == ([], {})
    assert Ask(TASK, details=True) in generation.undelete(at(3))


def test_a_deleted_generation_wakes_for_its_purge_alone() -> None:
    """Nothing is fetched, asked or sent on its behalf."""
    generation = a_generation(expecting=2)
    generation.record_webhook(a_delivery("a"), at())
    generation.confirm_outputs([down("a")], at(1))

    generation.delete(at(2))

    assert at(32) == generation.alarm_at(at(2))
    assert generation.alarm(at(31)) == []
    assert [Purge()] == generation.alarm(at(32))
    assert generation.alarm(at(33)) == []


def test_a_purge_needs_a_delete() -> None:
    """A task that was left over from before it was taken back removes nothing."""
    generation = a_generation()
    version = generation.version

    assert generation.record_purge(at()) == []
    assert version == generation.version


def test_a_purged_generation_is_still_paid_for() -> None:
    """Deleting does not give back the day's budget."""
    generation = a_generation(expecting=2, price_micros=5_000)
    generation.record_webhook(a_delivery(a_result("a", cost=0.0019)), at())
    generation.delete(at(1))
    generation.alarm(at(31))
    generation.record_purge(at(32))

    assert generation.spent_micros() == 1_900 + 5_000


def test_retention_reaches_what_stays_incomplete() -> None:
    """After the last time that Runware is asked."""
    generation = a_generation(policy=Policy(retention=timedelta(hours=1)))
    generation.record_response(an_answer(asked_at=at(AFTER), processing=True), at(AFTER))
    generation.record_projection(generation.version, at(AFTER))

    last = DEADLINE.total_seconds() + 24 * 3_600
    assert at(last + 3_600) == generation.alarm_at(at(last))
    assert Expire() not in generation.alarm(at(last + 3_599))
    assert [Expire()] == generation.alarm(at(last + 3_600))


# The finer print


def test_what_is_found_after_its_deadline_is_not_leased() -> None:
    """The task may be picked up before the alarm is: a service that was down for an hour."""
    generation, _ = a_new_generation()

    generation.record_dispatching(1, at(AFTER))

    state = state_of(generation)
    assert (state.dispatch, state.error and state.error.code) == ("refused", "network_error")


def test_a_late_refusal_of_an_older_attempt_does_not_end_a_doubtful_task() -> None:
    """An error of the task came for the second attempt: what the first was told is of no interest."""
    generation, _ = a_new_generation()
    generation.record_dispatching(1, at())
    generation.record_dispatch(1, Unknown("no answer"), at())
    generation.record_response(an_answer(asked_at=at(120), details=Delivery()), at(120))
    generation.record_dispatching(2, at(121))
    generation.record_webhook(a_delivery(a_failure("slow")), at(122))

    generation.record_dispatch(1, Refused(api_rejected(402, []), False), at(123))

    assert state_of(generation).dispatch == "accepted"


def test_a_refusal_that_passes_is_no_error_of_the_generation() -> None:
    """The client need not hear of each 429."""
    generation, _ = a_new_generation()
    generation.record_dispatching(1, at())

    generation.record_dispatch(1, TRANSIENT, at())

    assert state_of(generation).error is None


def test_a_timeout_after_an_undone_refusal_is_shown() -> None:
    """It was complete when it was refused; the verdict is news to the read model."""
    generation, _ = a_new_generation(expecting=2)
    generation.record_dispatching(1, at())
    generation.record_dispatch(1, Refused(api_rejected(400, []), False), at())
    generation.record_webhook(a_delivery("a"), at(1))
    generation.confirm_outputs([stored("a")], at(2))
    generation.record_projection(generation.version, at(3))

    orders = generation.record_response(an_answer(asked_at=at(AFTER), processing=True), at(AFTER))

    assert [Project()] == orders


def test_what_is_undeleted_is_shown_anew() -> None:
    """The read model has a tombstone in its place."""
    generation = a_generation()
    generation.delete(at(1))
    generation.record_projection(generation.version, at(2))

    assert Project() in generation.undelete(at(3))


def test_a_uuid_is_the_same_in_capitals() -> None:
    """Runware's parts need not agree on it."""
    task = UUID("abcdefab-cdef-4abc-8def-abcdefabcdef")
    generation, _ = Generation.init(id=ID, task_uuid=task, expected=1, now=at(), deadline=at(AFTER), policy=Policy())
    shouted = Result(str(task).upper(), "a", "https://im.runware.ai/a.jpg", {})

    [order] = generation.record_webhook(a_delivery(shouted), at())

    assert isinstance(order, StoreOutput)


def test_the_item_that_brought_the_address_is_the_one_that_is_kept() -> None:
    """The seed and the cost stand in it; what came before was less."""
    generation = a_generation()
    generation.record_webhook(a_delivery(a_result("a", url=None, cost=None)), at())
    generation.record_webhook(a_delivery(a_result("a", cost=0.002)), at(1))
    generation.confirm_outputs([stored("a")], at(2))

    [output] = state_of(generation).outputs
    assert output.type == "success"
    assert output.cost_micros == 2_000


def test_errors_of_more_images_than_asked_for_are_bounded_too() -> None:
    """Each fills a slot; a thousand would fill the disk."""
    generation = a_generation()
    failures = [a_failure("nsfw", image=f"image-{number}") for number in range(EXTRA_RESULTS + 20)]

    generation.record_webhook(a_delivery(*failures), at())

    assert len(generation.register.outputs) == EXTRA_RESULTS + 1


def test_slots_that_stay_empty_keep_their_ids_when_a_late_result_comes() -> None:
    """The read model knows them by id."""
    generation = a_generation(expecting=3)
    generation.record_response(an_answer(a_failure("nsfw"), asked_at=at(1)), at(1))
    before = {output.id for output in state_of(generation).outputs}

    generation.record_webhook(a_delivery("a"), at(2))
    generation.confirm_outputs([stored("a")], at(3))

    after = {output.id for output in state_of(generation).outputs}
    assert {output_id("a")} == after - before
    assert len(before - after) == 1


def test_more_results_than_asked_for_and_an_error_still_add_up() -> None:
    """No slot is empty, so none has failed."""
    generation = a_generation()
    generation.record_webhook(a_delivery("a", "b", "c", a_failure("slow")), at())
    generation.confirm_outputs([stored("a"), stored("b"), stored("c")], at(1))

    assert state_of(generation).counts.model_dump() == {"expected": 1, "stored": 3, "failed": 0, "missing": 0}


def test_an_address_that_stays_dead_is_given_up_when_patience_ends() -> None:
    """A CDN may be late by seconds, not by a day; Runware is asked for another once."""
    generation = a_generation()
    generation.record_webhook(a_delivery("a"), at())
    now, asks = at(), 0
    while True:
        orders = generation.confirm_outputs([down("a", status=404)], now)
        asks += sum(isinstance(order, Ask) for order in orders)
        due = generation.register.outputs[output_id("a")].retry_at
        if due is None:
            break
        now = due
        generation.alarm(now)

    assert timedelta(0) < now - at() <= timedelta(seconds=120)
    assert asks == 1
    assert state_of(generation).status == "failed"


def test_an_address_given_up_for_a_dead_one_is_tried_again_when_runware_says_so() -> None:
    """It was down when it was tried; the other is gone for good."""
    dead = "https://im.runware.ai/dead.jpg"
    generation = a_generation()
    generation.record_webhook(a_delivery("a", a_result("a", url=dead)), at())
    generation.confirm_outputs([down("a", status=503)], at(1))
    [*_, ask] = generation.confirm_outputs([down("a", status=404, url=dead)], at(2))
    assert Ask(TASK, details=True) == ask

    orders = generation.record_response(an_answer(asked_at=at(3), processing=True, details=a_delivery("a")), at(3))

    assert StoreOutput(output_id("a")) in orders
    assert a_result("a").url == generation.register.outputs[output_id("a")].url


def test_a_failure_is_shown_when_it_is_another_and_only_then() -> None:
    """A hundred tries that end alike are one line in the read model."""
    generation = a_generation()
    generation.record_webhook(a_delivery("a"), at())
    generation.confirm_outputs([full("a")], at())
    generation.alarm(at(130))
    assert [Project()] == generation.confirm_outputs([full("a")], at(130))
    generation.record_projection(generation.version, at(131))

    generation.alarm(at(1_000))
    same = generation.confirm_outputs([full("a")], at(1_000))
    generation.alarm(at(3_000))
    another = generation.confirm_outputs([down("a")], at(3_000))

    assert ([], [Project()]) == (same, another)


def test_a_purge_does_not_complete_what_was_running() -> None:
    """Its times are what is kept of it: they must be true."""
    generation = a_generation(expecting=2)
    generation.record_webhook(a_delivery("a"), at())
    generation.record_response(an_answer(asked_at=at(AFTER), processing=True), at(AFTER))
    generation.delete(at(AFTER))
    generation.alarm(at(AFTER + 30))

    generation.record_purge(at(AFTER + 31))

    assert state_of(generation).completed_at is None


def test_retention_waits_for_a_projection_that_failed() -> None:
    """Without state there would be nothing to replay."""
    generation = a_generation(policy=Policy(retention=timedelta(hours=1)))
    generation.record_webhook(a_delivery("a"), at())
    generation.confirm_outputs([stored("a")], at())
    generation.set_error(projection_failed("x"), generation.version, at())

    assert generation.alarm_at(at(1)) is None
    assert generation.alarm(at(10**6)) == []


def test_retention_waits_for_what_is_still_tried() -> None:
    """The client was told an error; the image was paid for."""
    generation = a_generation(policy=Policy(retention=timedelta(seconds=1)))
    generation.record_webhook(a_delivery("a"), at())
    generation.confirm_outputs([full("a")], at())
    generation.alarm(at(130))
    generation.confirm_outputs([full("a")], at(130))
    generation.record_projection(generation.version, at(131))
    assert state_of(generation).settled

    orders = generation.alarm(at(3_000))

    assert [StoreOutput(output_id("a"))] == orders
    assert Expire() not in generation.alarm(at(3_001))
