"""Any order and repetition of the same facts ends in the same outcome."""

from collections import Counter
from datetime import datetime, timedelta
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runware_provider.errors import api_rejected, network_error
from runware_provider.generation import Generation
from runware_provider.register import decode, encode
from runware_provider.types import (
    Accepted,
    Ask,
    Delivery,
    Dispatch,
    DispatchOutcome,
    Failure,
    Invalid,
    Order,
    Project,
    Refused,
    Result,
    StoreOutput,
    Unknown,
)
from tests.builders import (
    POLICY,
    a_failure,
    a_new_generation,
    a_result,
    an_answer,
    an_invalid,
    at,
    down,
    output_id,
    refused,
    state_of,
    stored,
)

TASKS = (Dispatch, StoreOutput, Project)
NAMES = ("a", "b", "c", "d")
LOSS = settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)

facts = st.lists(
    st.one_of(
        st.sampled_from(NAMES).map(a_result),
        st.sampled_from(NAMES).map(lambda name: a_result(name, url=None)),
        st.tuples(st.sampled_from(("slow", "nsfw")), st.sampled_from((*NAMES, None))).map(
            lambda pair: a_failure(pair[0], image=pair[1])
        ),
        st.sampled_from("xy").map(an_invalid),
    ),
    min_size=1,
    max_size=8,
)
outcomes: st.SearchStrategy[DispatchOutcome] = st.sampled_from(
    [
        Accepted(),
        Unknown("no answer"),
        Refused(network_error("down"), retryable=True),
        Refused(api_rejected(503, [{"code": "busy"}]), retryable=True, retry_after=timedelta(seconds=3)),
    ]
)
fates = st.fixed_dictionaries({name: st.sampled_from(["kept", "kept late", "refused"]) for name in NAMES})


class World:
    """Performs what a generation orders: images are kept or not as their fate says, every version is projected."""

    def __init__(self, expecting: int, fates: dict[str, str]) -> None:
        self.names = {output_id(name): name for name in NAMES}
        self.fates = dict(fates)
        self.now: datetime = at()
        self.generation, orders = a_new_generation(expecting=expecting)
        self.orders: list[Order] = list(orders)
        self.kept: Counter[str] = Counter()
        self.projected = 0

    def say(self, orders: list[Order]) -> None:
        """Take up orders, after the state went through its text: what is kept is all there is."""
        self.orders += orders
        self.generation = Generation(decode(encode(self.generation.register)), POLICY)

    def perform(self, order: Order, outcome: DispatchOutcome) -> None:
        """Do one order, as the processing would."""
        generation = self.generation
        match order:
            case Dispatch(attempt=attempt):
                self.say(generation.record_dispatching(attempt, self.now))
                if self.generation.register.dispatch.status == "sending":
                    self.say(self.generation.record_dispatch(attempt, outcome, self.now))
            case StoreOutput(output_id=which):
                name = self.names[which]
                if self.fates[name] == "kept late":
                    self.fates[name] = "kept"
                    self.say(generation.confirm_outputs([down(name)], self.now))
                elif self.fates[name] == "kept":
                    self.kept[name] += 1
                    self.say(generation.confirm_outputs([stored(name)], self.now))
                else:
                    self.say(generation.confirm_outputs([refused(name)], self.now))
            case Project():
                self.projected = max(self.projected, generation.version)
                self.say(generation.record_projection(generation.version, self.now))
            case _:
                pass

    def drain(self) -> None:
        """Perform everything that is ordered until nothing is left, letting time pass for what waits."""
        for _ in range(500):
            while self.orders:
                self.perform(self.orders.pop(0), Accepted())
            waits = [record.retry_at for record in self.generation.register.outputs.values() if record.retry_at]
            dispatch = self.generation.register.dispatch
            if dispatch.status == "queued" and dispatch.retry_at:
                waits.append(dispatch.retry_at)
            if not waits:
                return
            self.now = max(self.now, min(waits))
            self.say(self.generation.alarm(self.now))
        raise AssertionError("it never comes to rest")


def outcome(world: World) -> dict[str, Any]:
    """What a client may rely on, without the times."""
    state = state_of(world.generation)
    outputs = {
        str(output.id): output.key if output.type == "success" else output.error.model_dump(exclude={"attempts"})
        for output in state.outputs
    }
    error = state.error.model_dump(exclude={"attempts"}) if state.error else None
    return {"outputs": outputs, "status": state.status, "error": error, "counts": state.counts.model_dump()}


def tell(world: World, fact: Result | Failure | Invalid, *, by_webhook: bool) -> None:
    if by_webhook or isinstance(fact, Invalid):
        world.say(world.generation.record_webhook(Delivery((fact,)), world.now))
    else:  # that more is to come keeps the answer from being the last word
        world.say(world.generation.record_response(an_answer(fact, processing=True), world.now))


@LOSS
@given(facts, st.integers(1, 4), fates, outcomes, st.randoms(use_true_random=False), st.data())
def test_any_order_and_repetition_ends_in_the_same_outcome(
    said: list[Result | Failure | Invalid],
    expecting: int,
    fate: dict[str, str],
    dispatched: DispatchOutcome,
    chance: Any,
    data: st.DataObject,
) -> None:
    """Webhooks are repeated, late, reordered and come before the dispatch's answer; tasks are done twice."""
    plain, wild = World(expecting, fate), World(expecting, fate)
    plain.drain()
    for fact in said:
        tell(plain, fact, by_webhook=True)
        plain.drain()

    told = [*said, *said]
    chance.shuffle(told)
    for fact in told:
        for _ in range(data.draw(st.integers(0, 2))):
            if wild.orders:
                order = wild.orders.pop(chance.randrange(len(wild.orders)))
                wild.perform(order, dispatched)
                if chance.random() < 0.3:
                    wild.perform(order, dispatched)
        tell(wild, fact, by_webhook=chance.random() < 0.5)
    wild.drain()
    for fact in said:  # what answers and webhooks had taught apart from the invalid, once more
        tell(wild, fact, by_webhook=True)
    wild.drain()

    assert outcome(plain) == outcome(wild)
    assert all(record.status != "pending" for record in wild.generation.register.outputs.values())
    assert not wild.generation.register.projection.asked
    assert wild.projected >= wild.generation.register.projection.wanted


@LOSS
@given(facts, st.integers(1, 4), fates)
def test_whatever_was_paid_for_is_kept(
    said: list[Result | Failure | Invalid], expecting: int, fate: dict[str, str]
) -> None:
    """An image that Runware gave an address for ends as a success unless its bytes are not kept by rule."""
    world = World(expecting, fate)
    world.drain()
    for fact in said:
        tell(world, fact, by_webhook=True)
    world.drain()

    given_away = {fact.image_uuid for fact in said if isinstance(fact, Result) and fact.url}
    expected = {name for name in given_away if fate[name] != "refused"}
    successes = {output.image_uuid for output in state_of(world.generation).outputs if output.type == "success"}
    assert expected == successes


calls = st.lists(
    st.one_of(
        facts.map(lambda each: ("webhook", each)),
        facts.map(lambda each: ("response", each)),
        st.sampled_from(NAMES).map(lambda name: ("stored", name)),
        st.sampled_from(NAMES).map(lambda name: ("down", name)),
        st.sampled_from(NAMES).map(lambda name: ("refused", name)),
        outcomes.map(lambda each: ("dispatch", each)),
        st.sampled_from(["dispatching", "alarm", "retry", "replay", "delete", "undelete", "projected", "purge"]).map(
            lambda name: (name, None)
        ),
        st.integers(1, 2_000).map(lambda seconds: ("wait", seconds)),
    ),
    max_size=25,
)


@LOSS
@given(calls, st.integers(1, 3))
def test_every_call_repeated_changes_nothing_and_nothing_goes_backwards(
    story: list[tuple[str, Any]], expecting: int
) -> None:
    """Rule 3 and rule 4 of the register, for any story, likely or not."""
    generation, _ = a_new_generation(expecting=expecting)
    now = at()
    for what, value in story:
        if what == "wait":
            now += timedelta(seconds=value)
            continue
        before = {key: record.status for key, record in generation.register.outputs.items()}
        version = generation.version
        call = _call(generation, what, value, now)

        orders = call()
        changed = generation.version

        assert changed - version in {0, 1}
        assert changed > version or not [order for order in orders if isinstance(order, TASKS)]
        if what not in {"dispatching", "alarm"}:  # asked twice, a lease is an outcome that is unknown
            repeated = call()
            assert changed == generation.version, f"{what} repeated is a change"
            assert not [order for order in repeated if isinstance(order, TASKS)]
        ranks = ["pending", "error", "success"]
        for key, record in generation.register.outputs.items():
            assert ranks.index(before.get(key, "pending")) <= ranks.index(record.status)
        alarm_at = generation.alarm_at(now)
        assert what != "alarm" or alarm_at is None or alarm_at > now
        assert decode(encode(generation.register)) == generation.register


def _call(generation: Generation, what: str, value: Any, now: datetime) -> Any:
    attempt, version = generation.register.dispatch.attempt, generation.version
    match what:
        case "webhook":
            return lambda: generation.record_webhook(Delivery(tuple(value)), now)
        case "response":
            known = tuple(fact for fact in value if not isinstance(fact, Invalid))
            return lambda: generation.record_response(an_answer(*known, asked_at=now), now)
        case "stored":
            return lambda: generation.confirm_outputs([stored(value)], now)
        case "down":
            return lambda: generation.confirm_outputs([down(value)], now)
        case "refused":
            return lambda: generation.confirm_outputs([refused(value)], now)
        case "dispatch":
            return lambda: generation.record_dispatch(attempt, value, now)
        case "dispatching":
            return lambda: generation.record_dispatching(attempt, now)
        case "projected":
            return lambda: generation.record_projection(version, now)
        case "purge":
            return lambda: generation.record_purge(now)
        case _:
            return lambda: getattr(generation, what)(now)


def test_asking_goes_on_for_a_day_and_then_ends() -> None:
    """Runware that answers nothing costs a bounded number of questions, by webhook and by polling."""
    for delivery in ("webhook", "poll"):
        world = World(1, {})
        world.generation.policy = type(POLICY)(delivery=delivery)
        world.say([])
        generation = Generation(world.generation.register, type(POLICY)(delivery=delivery))
        generation.record_dispatching(1, at())
        generation.record_dispatch(1, Accepted(), at())
        asked = 0
        now = at()
        for _ in range(2_000):
            alarm_at = generation.alarm_at(now)
            if alarm_at is None:
                break
            now = alarm_at
            orders = generation.alarm(now)
            asked += sum(isinstance(order, Ask) for order in orders)
            generation.record_response(an_answer(asked_at=now, processing=True), now)
        else:
            raise AssertionError("it asks for ever")

        assert timedelta(hours=24) <= now - at() <= timedelta(hours=25)
        assert asked <= 120
        state = state_of(generation)
        assert state.error is not None
        assert state.error.code == "timeout"
