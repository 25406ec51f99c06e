"""Whole lives in a hostile world: whatever happens in whatever order, the same is told and kept in the end.

A `Truth` is what Runware did and what its CDN holds. A `Life` plays one generation in it: facts in any order and
repetition, tasks performed late, twice or in vain, projections that fail, people who retry, delete and undelete.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from runware_provider.errors import api_rejected, content_rejected, fetch_failed, projection_failed
from runware_provider.generation import Generation
from runware_provider.register import decode, encode
from runware_provider.schedule import Policy
from runware_provider.types import (
    Accepted,
    Answer,
    Ask,
    Confirmation,
    Delivery,
    Dispatch,
    DispatchOutcome,
    Failure,
    Invalid,
    NotStored,
    Order,
    Project,
    Purge,
    Refused,
    Result,
    Stored,
    StoreOutput,
    Unknown,
)
from tests.builders import (
    DEADLINE,
    a_failure,
    a_new_generation,
    a_result,
    an_invalid,
    at,
    output_id,
    state_of,
)

LIVES = settings(max_examples=250, deadline=None, print_blob=True)
NAMES = ("a", "b", "c")
KINDS = ("good", "down", "refused", "moved", "failed", "failed, then made", "no address", "no address at first", "gone")
RANKS = ("pending", "error", "success")
Told = Result | Failure | Invalid


@dataclass(frozen=True)
class Truth:
    """What Runware made of the task: a kind for each image, errors of the task, how the dispatch is answered."""

    expecting: int
    images: dict[str, str]
    errors: tuple[str, ...]
    invalid: bool
    foreign: bool
    answered: DispatchOutcome
    endless: bool
    """`getResponse` goes on to name work that is `processing`."""
    delivery: Any

    def facts(self) -> list[Told]:
        """All that there is to be told, each once."""
        told: list[Told] = [a_failure(code) for code in self.errors]
        for name, kind in self.images.items():
            if kind.startswith("failed"):
                told.append(a_failure("nsfw", image=name))
            if kind.startswith("no address"):
                told.append(a_result(name, url=None))
            if kind in {"good", "down", "refused", "moved", "gone", "failed, then made", "no address at first"}:
                told.append(a_result(name))
            if kind == "moved":
                told.append(a_result(name, url=self.fresh(name)))
        if self.invalid:
            told.append(an_invalid("x"))
        if self.foreign:
            told.append(a_result("z", task=output_id("z")))
        return told

    @staticmethod
    def fresh(name: str) -> str:
        """Where the image lies after it has moved."""
        return f"https://im.runware.ai/fresh/{name}.jpg"

    def answer(self, now: datetime, *, details: bool) -> Answer:
        """What Runware says when it is asked."""
        rows = tuple(fact for fact in self.facts() if not isinstance(fact, Invalid))
        return Answer(now, Delivery(rows, self.endless), Delivery(rows) if details else None)

    def outcome(self, attempt: int) -> DispatchOutcome:
        """How Runware answers an attempt; a second one is sent only when nobody knew of the first."""
        return Accepted() if attempt > 1 and isinstance(self.answered, Unknown) else self.answered


class Life:
    """One generation. Every call is checked: versions, repeats, forward-only, what survives its text."""

    def __init__(self, truth: Truth) -> None:
        self.truth = truth
        self.policy = Policy(delivery=truth.delivery)
        self.now = at()
        self.generation, orders = a_new_generation(expecting=truth.expecting, policy=self.policy)
        self.orders: list[Order] = []
        self.names = {output_id(name): name for name in (*NAMES, "z")}
        self.copies = 0
        self.down = dict.fromkeys(NAMES, 4)
        self._take(orders)
        self.leased = False

    def say(self, call: Callable[[Generation], list[Order]], *, repeatable: bool = True) -> None:
        """Make one call, and the same again."""
        before, text = self.generation.register, encode(self.generation.register)
        was = {key: (record.status, record.stored) for key, record in before.outputs.items()}
        version, accepted = before.version, before.dispatch.status == "accepted"

        orders = call(self.generation)

        register = self.generation.register
        written = encode(register)
        assert register.version - version == (written != text)
        assert written != text or not _tasks(orders)
        assert not (accepted and any(isinstance(order, Dispatch) for order in orders)), "sent after acceptance"
        for key, (status, image) in was.items():
            record = register.outputs.get(key)
            if record is None:
                assert register.purged_at is not None
                continue
            assert RANKS.index(status) <= RANKS.index(record.status), "it went backwards"
            assert image is None or image == record.stored, "a second success won"
        if repeatable:
            repeated = call(self.generation)
            assert encode(self.generation.register) == written, "a repeat is a change"
            assert not _tasks(repeated)
        self.generation = Generation(decode(written), self.policy)
        assert self.generation.register == register
        self._take(orders)

    def _take(self, orders: list[Order]) -> None:
        self.orders += orders

    def told(self, fact: Told, *, by_webhook: bool) -> None:
        """Runware says something of its own accord, or in an answer that is not its last word."""
        delivery = Delivery((fact,))
        if by_webhook or isinstance(fact, Invalid):
            self.say(lambda generation: generation.record_webhook(delivery, self.now))
        else:
            answer = Answer(self.now, Delivery((fact,), processing=True))
            self.say(lambda generation: generation.record_response(answer, self.now))

    def sent(self) -> None:
        """The first attempt is under way: nobody can tell of it before. Its order is done when its answer comes."""
        self.say(lambda generation: generation.record_dispatching(1, self.now), repeatable=False)
        self.leased = True

    def perform(self, order: Order, *, works: bool = True) -> None:
        """Do one order as the processing would; `works` is the read model's mood."""
        now = self.now
        match order:
            case Dispatch(attempt=attempt):
                granted, self.leased = self.leased, False
                if not granted:
                    self.say(lambda generation: generation.record_dispatching(attempt, now), repeatable=False)
                    granted = self.generation.register.dispatch.status == "sending"
                if granted:
                    outcome = self.truth.outcome(attempt)
                    self.say(lambda generation: generation.record_dispatch(attempt, outcome, now))
            case StoreOutput(output_id=which):
                record = self.generation.register.outputs.get(which)
                if record is not None and record.storing and record.url is not None:
                    confirmation = self._fetched(self.names[which], record.url)
                    self.say(lambda generation: generation.confirm_outputs([confirmation], now))
            case Project():
                version = self.generation.version
                if works:
                    self.say(lambda generation: generation.record_projection(version, now))
                else:
                    self.say(lambda generation: generation.set_error(projection_failed("no"), version, now))
            case Ask(details=details):
                answer = self.truth.answer(now, details=details)
                self.say(lambda generation: generation.record_response(answer, now))
            case Purge():
                raise AssertionError("nothing was deleted for good")
            case _:
                pass

    def _fetched(self, name: str, url: str) -> Confirmation:
        kind = self.truth.images[name]
        if kind == "down" and self.down[name] > 0:
            self.down[name] -= 1
            return NotStored(output_id(name), url, fetch_failed(url, 503, "down"))
        if kind == "refused":
            return NotStored(output_id(name), url, content_rejected("too_large", "larger than allowed"))
        if kind == "gone" or (kind == "moved" and url != self.truth.fresh(name)):
            return NotStored(output_id(name), url, fetch_failed(url, 404, "not there"))
        self.copies += 1
        return Stored(output_id(name), f"key/{self.copies}", "image/jpeg", 1_000, "f" * 64, 512, 512)

    def settle(self) -> None:
        """Perform everything, and let time pass, until nothing is awaited any more."""
        for _ in range(3_000):
            while self.orders:
                self.perform(self.orders.pop(0))
            alarm_at = self.generation.alarm_at(self.now)
            if alarm_at is None:
                return
            self.now = max(self.now, alarm_at)
            self.say(lambda generation: generation.alarm(self.now))
            following = self.generation.alarm_at(self.now)
            assert following is None or following > self.now, "an alarm that is due at once again"
        raise AssertionError("it never comes to rest")

    def outcome(self) -> dict[str, Any]:
        """What a client may rely on, without times, versions and the names of copies."""
        state = state_of(self.generation)
        return {
            "status": state.status,
            "error": state.error.model_dump(exclude={"attempts"}) if state.error else None,
            "counts": state.counts.model_dump(),
            "outputs": {
                output.id: "stored" if output.type == "success" else output.error.model_dump(exclude={"attempts"})
                for output in state.outputs
            },
        }


def _tasks(orders: list[Order]) -> list[Order]:
    return [order for order in orders if isinstance(order, Dispatch | StoreOutput | Project | Purge)]


truths = st.builds(
    Truth,
    expecting=st.integers(1, 3),
    images=st.dictionaries(st.sampled_from(NAMES), st.sampled_from(KINDS), max_size=3),
    errors=st.lists(st.sampled_from(("slow", "busy")), max_size=2, unique=True).map(tuple),
    invalid=st.booleans(),
    foreign=st.booleans(),
    answered=st.sampled_from([Accepted(), Unknown("no answer"), Refused(api_rejected(400, [{"code": "no"}]), False)]),
    endless=st.booleans(),
    delivery=st.sampled_from(("webhook", "poll")),
)
steps = st.lists(
    st.tuples(
        st.sampled_from(
            ("fact", "fact", "task", "task", "again", "alarm", "wait", "retry", "replay", "clear", "delete")
        ),
        st.integers(0, 11),
        st.booleans(),
    ),
    max_size=40,
)


def canonical(truth: Truth) -> Life:
    """The life that the design describes: sent, answered, told each fact once, everything done at once."""
    life = Life(truth)
    life.sent()
    life.perform(life.orders.pop(0))
    for fact in truth.facts():
        life.told(fact, by_webhook=True)
    life.settle()
    return life


def play(life: Life, story: list[tuple[str, int, bool]]) -> None:
    """Whatever the story says, within the time before the deadline."""
    facts = life.truth.facts()
    done: list[Order] = []
    for what, number, flag in story:
        deleted = life.generation.register.deleted_at is not None
        match what:
            case "fact" if facts:
                life.told(facts[number % len(facts)], by_webhook=flag)
            case "task" if life.orders:
                done.append(life.orders.pop(number % len(life.orders)))
                life.perform(done[-1], works=flag)
            case "again" if done:
                life.perform(done[number % len(done)], works=flag)
            case "alarm" if not deleted:
                life.say(lambda generation: generation.alarm(life.now), repeatable=False)
            case "wait":
                life.now += timedelta(seconds=2 * number)
            case "retry":
                life.say(lambda generation: generation.retry(life.now))
            case "replay":
                life.say(lambda generation: generation.replay(life.now))
            case "clear":
                life.say(lambda generation: generation.clear_error(life.now))
            case "delete" if deleted:
                life.say(lambda generation: generation.undelete(life.now))
            case "delete":
                life.say(lambda generation: generation.delete(life.now))
            case _:
                pass
    assert life.now < at() + DEADLINE
    life.say(lambda generation: generation.undelete(life.now))


@LIVES
@given(truths, steps)
def test_every_life_in_the_same_world_ends_alike(truth: Truth, story: list[tuple[str, int, bool]]) -> None:
    """Outputs by id, status and error; nothing pending, everything projected."""
    expected = canonical(truth).outcome()
    life = Life(truth)
    life.sent()
    play(life, story)
    life.settle()

    for fact in truth.facts():
        life.told(fact, by_webhook=True)
    life.settle()
    life.say(lambda generation: generation.replay(life.now))
    life.settle()

    register = life.generation.register
    assert expected == life.outcome()
    assert not any(record.status == "pending" or record.storing for record in register.outputs.values())
    assert (register.projection.asked, register.projection.error) == (False, None)
    assert register.projection.done >= register.projection.wanted


@LIVES
@given(truths, steps)
def test_every_image_that_can_be_had_is_kept(truth: Truth, story: list[tuple[str, int, bool]]) -> None:
    """It was paid for. Even when webhooks are lost: Runware is asked."""
    life = Life(truth)
    life.sent()
    play(life, story)
    life.settle()
    if isinstance(truth.answered, Refused):  # nobody asks about what was refused: its webhooks must come
        for fact in truth.facts():
            life.told(fact, by_webhook=True)
        life.settle()

    had = {"good", "down", "moved"}
    wanted = {name for name, kind in truth.images.items() if kind in had}
    kept = {output.image_uuid for output in state_of(life.generation).outputs if output.type == "success"}
    # What Runware itself called failed fills its slot, and more than was asked for is not looked for.
    if len(wanted) == len(truth.images) <= truth.expecting:
        assert wanted == kept


@LIVES
@given(truths, steps)
def test_a_life_of_deliveries_after_a_delete_leaves_nothing(truth: Truth, story: list[tuple[str, int, bool]]) -> None:
    """Deleted is deleted, whatever is still under way; of the purged nothing but id, task and times remains."""
    life = Life(truth)
    life.sent()
    play(life, story)
    life.say(lambda generation: generation.delete(life.now))
    life.now += life.policy.undo
    life.say(lambda generation: generation.alarm(life.now))
    life.orders.remove(Purge())
    life.say(lambda generation: generation.record_purge(life.now))

    play(life, [step for step in story if step[0] != "wait"])
    for fact in truth.facts():
        life.told(fact, by_webhook=True)
    life.say(lambda generation: generation.record_dispatch(1, truth.answered, life.now))
    life.settle()

    register = life.generation.register
    assert register.outputs == {}
    assert register.dispatch.error is None
    assert register.deleted_at is not None
    assert life.generation.alarm_at(life.now) is None
