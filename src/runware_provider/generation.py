"""One generation's state register.

Rule 1: every rule of healing and ordering is in this file; those of counting are in `reading.py`.
Rule 2: no I/O, no clock, no chance: `now` is an argument, what must happen next is a return value.
Rule 3: every method may be called twice with the same arguments; the second call changes nothing.
Rule 4: things only move forward. An output goes pending, error, success; success is final and the first one wins.

A method returns orders: tasks, which are committed with the new state, and what needs no keeping. `version` grows
with every call that changed something; a call that leaves it alone needs no commit. `alarm_at` says when to call
`alarm`. The register is bounded: `expected` + 32 results, 16 errors that fill no slot, 16 invalid deliveries,
8 former addresses an output, 64 timeline entries.
"""

import json
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any, Self, assert_never
from uuid import UUID

import msgspec
from uuid_utils.compat import uuid5

from runware_provider.errors import (
    ContentRejected,
    DispatchError,
    FetchFailed,
    OutputError,
    ProjectionFailed,
    WebhookError,
    content_rejected,
    network_error,
    projection_failed,
    validation,
    webhook_error,
    worth_trying,
)
from runware_provider.reading import costs_micros, filled, is_runwares, is_settled, outputs_of, rank, state_of
from runware_provider.register import SCHEMA, DispatchRecord, Happening, OutputRecord, Register
from runware_provider.schedule import LATE_ASKS, STORE_WINDOW, Policy, backoff, next_ask
from runware_provider.types import (
    Accepted,
    Answer,
    Ask,
    Confirmation,
    Delivery,
    Dispatch,
    DispatchOutcome,
    DispatchStatus,
    Expire,
    Fact,
    Failure,
    Forget,
    GenerationState,
    Invalid,
    KeepUnclaimed,
    NotStored,
    Order,
    Output,
    Project,
    Purge,
    Refused,
    Request,
    Result,
    Stored,
    StoreOutput,
    Unknown,
)

EXTRA_RESULTS = 32
LOOSE_ERRORS = 16
INVALID_DELIVERIES = 16
FORMER_URLS = 8
TIMELINE_ENTRIES = 64
DISPATCH_CAP = timedelta(minutes=1)
STORE_CAP = timedelta(minutes=10)


class _Turn(msgspec.Struct, gc=False):
    """What one call did: the orders it gives, whether it changed anything, and whether outputs or status changed."""

    now: datetime
    orders: list[Order] = []
    changed: bool = False
    visible: bool = False


class Generation:
    """See the module. `register` is this object's own: nobody else may change it."""

    __slots__ = ("_task_uuid", "policy", "register")

    def __init__(self, register: Register, policy: Policy) -> None:
        self.register = register
        self.policy = policy
        self._task_uuid = str(register.task_uuid)  # as each fact names it

    @classmethod
    def init(
        cls,
        *,
        id: UUID,
        task_uuid: UUID,
        expected: int,
        now: datetime,
        deadline: datetime,
        policy: Policy,
        model: str | None = None,
        price_micros: int = 0,
    ) -> tuple[Self, list[Order]]:
        """A new generation, to be committed before Runware hears of it."""
        register = Register(
            schema=SCHEMA,
            id=id,
            task_uuid=task_uuid,
            expected=expected,
            created_at=now,
            deadline=deadline,
            dispatch=DispatchRecord("queued", now),
            model=model,
            price_micros=price_micros,
        )
        generation = cls(register, policy)
        turn = _Turn(now, [Dispatch(1)])
        generation._note(turn, "created")
        generation._want_projection(turn)
        return generation, generation._end(turn)

    @property
    def version(self) -> int:
        """Grows by one with every call that changed something."""
        return self.register.version

    @property
    def settled(self) -> bool:
        """Complete, and the read model has it or is known to lack it."""
        return is_settled(self.register)

    # The dispatch

    def record_dispatching(self, attempt: int, now: datetime) -> list[Order]:
        """Take the lease for one attempt, before its first byte leaves: `dispatch.status` is then `sending`.

        Asked again for an attempt that was already being sent, its process died or lost the answer: the outcome is
        `unknown`. An attempt that is not due is not granted, and nothing changes.
        """
        turn = _Turn(now)
        dispatch = self.register.dispatch
        if dispatch.attempt == attempt and dispatch.status == "sending":
            self._set_dispatch(turn, "unknown", "the process that was sending it died")
        elif dispatch.attempt == attempt and dispatch.status == "queued" and self.register.deleted_at is None:
            if now >= self.register.deadline:
                self._refuse_unsent(turn)
            elif dispatch.retry_at is None or now >= dispatch.retry_at:
                dispatch.retry_at = None
                self._set_dispatch(turn, "sending", f"attempt {attempt}")
        return self._end(turn)

    def record_dispatch(self, attempt: int, outcome: DispatchOutcome, now: datetime) -> list[Order]:
        """Record how an attempt ended. Acceptance always counts; the rest only for the attempt under way.

        A refusal for good stands against mere errors of the task, whichever came first, and falls with any proof that
        Runware has the task.
        """
        turn = _Turn(now)
        dispatch = self.register.dispatch
        if self.register.purged_at is not None:
            return self._end(turn)
        current = dispatch.attempt == attempt and dispatch.status in {"sending", "unknown"}
        match outcome:
            case Accepted(delivery=delivery):
                self._accept(turn, proof=True)
                if self.register.deleted_at is None:
                    self._learn(turn, delivery.facts)
            case Refused(error=error, retryable=False):
                doubtful = dispatch.attempt == attempt and dispatch.status == "accepted" and not dispatch.proven
                if current or doubtful:
                    self._refuse(turn, error)
            case Refused(error=error, retry_after=wish):
                if current:
                    if now >= self.register.deadline:
                        self._refuse(turn, error)
                    else:
                        dispatch.error = error
                        wait = backoff(attempt, cap=DISPATCH_CAP, seed=self.register.id, wish=wish)
                        dispatch.attempt = attempt + 1
                        dispatch.retry_at = now + wait
                        self._set_dispatch(turn, "queued", f"{error.code}; again in {wait.total_seconds():.1f} s")
            case Unknown(reason=reason):
                if current and dispatch.status == "sending":
                    self._set_dispatch(turn, "unknown", reason)
            case _:
                assert_never(outcome)
        return self._end(turn)

    # What Runware tells

    def record_webhook(self, delivery: Delivery, now: datetime) -> list[Order]:
        """Record one delivery, whatever it holds. Any delivery shows that Runware has the task."""
        turn = _Turn(now)
        if self.register.deleted_at is None:
            if delivery.facts or delivery.processing:
                self._accept(turn, proof=delivery.processing)
            self._learn(turn, delivery.facts)
        return self._end(turn)

    def record_response(self, answer: Answer, now: datetime) -> list[Order]:
        """Record what `getResponse` (and `getTaskDetails`) said.

        A bare `processing` of `getResponse` proves nothing: Runware may say it of a task that it never had. After
        `patience` of knowing nothing an unknown dispatch is sent again; after the deadline an answer is the verdict.
        """
        turn = _Turn(now)
        register = self.register
        if register.deleted_at is not None:
            return self._end(turn)
        facts = [fact for fact in answer.response.facts if not isinstance(fact, Invalid) and self._is_ours(fact)]
        details = answer.details or Delivery()
        recalled = [fact for fact in details.facts if not isinstance(fact, Invalid) and self._is_ours(fact)]
        if facts or recalled or details.processing:
            self._accept(turn, proof=details.processing)
        self._learn(turn, (*facts, *recalled))
        if facts and not answer.response.processing and register.over is None:
            failed = any(isinstance(fact, Failure) and fact.image_uuid is None for fact in facts)
            register.over = "error" if failed else "results"
            turn.changed = turn.visible = True
        if register.dispatch.status == "unknown" and answer.details is not None and now < register.deadline:
            if answer.asked_at >= register.dispatch.since + self.policy.patience:
                register.dispatch.attempt += 1
                self._set_dispatch(turn, "queued", "Runware does not know the task: sent again")
                turn.orders.append(Dispatch(register.dispatch.attempt))
        elif self._is_open() and register.over is None and answer.asked_at >= register.deadline:
            register.timed_out_at = now
            turn.visible = True
            self._note(turn, "timeout", f"{filled(register)} of {register.expected}")
        return self._end(turn)

    # What became of it

    def confirm_outputs(self, confirmations: Iterable[Confirmation], now: datetime) -> list[Order]:
        """Record images that are kept, and tries that failed. Whoever confirms a stored image first wins."""
        turn = _Turn(now)
        for confirmation in confirmations:
            record = self.register.outputs.get(confirmation.output_id)
            if record is None or record.status == "success" or self.register.deleted_at is not None:
                continue
            match confirmation:
                case Stored():
                    record.status, record.stored, record.error = "success", confirmation, None
                    record.storing, record.retry_at, record.trying_since = False, None, None
                    record.former_urls, record.spare_urls = [], []
                    turn.visible = True
                    self._note(turn, "stored", confirmation.key.rpartition("/")[2])
                case NotStored():
                    self._not_stored(turn, record, confirmation)
                case _:
                    assert_never(confirmation)
        return self._end(turn)

    def record_projection(self, version: int, now: datetime) -> list[Order]:
        """The read model has `version`. Asks for the next `Project` when more has happened since."""
        turn = _Turn(now)
        projection = self.register.projection
        if version > projection.done or (projection.error is not None and version >= projection.wanted):
            projection.done, projection.done_at, projection.error = max(version, projection.done), now, None
            self._projection_ended(turn, version)
            if self.register.completed_at is not None and not projection.asked:
                self._note(turn, "projected")
        return self._end(turn)

    def set_error(self, error: ProjectionFailed, version: int, now: datetime) -> list[Order]:
        """The read model refused `version`. Kept beside the outcome until a `replay` succeeds or it is cleared."""
        turn = _Turn(now)
        projection = self.register.projection
        if version > max(projection.done, projection.failed):
            projection.failed, projection.error = version, error
            self._projection_ended(turn, version)
            self._note(turn, "projection_failed")
        return self._end(turn)

    def clear_error(self, now: datetime) -> list[Order]:
        """Clear `projection_failed`, and nothing else: the operator knows that the read model lacks this."""
        turn = _Turn(now)
        if self.register.projection.error is not None:
            self.register.projection.error = None
            self._note(turn, "cleared")
        return self._end(turn)

    # What people ask for

    def retry(self, now: datetime) -> list[Order]:
        """Try every failed output again. Costs nothing: what Runware has made is fetched, nothing is made anew."""
        turn = _Turn(now)
        register = self.register
        if register.deleted_at is not None:
            return self._end(turn)
        details = filled(register) < register.expected and register.dispatch.status in {"accepted", "unknown"}
        for output_id, record in register.outputs.items():
            if record.status != "error" or record.image_uuid is None or record.storing:
                continue
            record.former_urls = []
            if record.url is None:
                details = True
            else:
                record.attempts, record.trying_since, record.asked = 0, None, False
                self._store(turn, output_id, record)
                self._note(turn, "retry")
        if details:
            turn.orders.append(Ask(register.task_uuid, details=True))
        return self._end(turn)

    def replay(self, now: datetime) -> list[Order]:
        """Project again from state, after the read model's trouble has been mended or to build it anew."""
        turn = _Turn(now)
        owed = self.register.projection.error is not None  # the tombstone of what was purged, too
        if (self.register.purged_at is None or owed) and not self.register.projection.asked:
            self._note(turn, "replay")
            self._want_projection(turn)
        return self._end(turn)

    def delete(self, now: datetime) -> list[Order]:
        """Hide at once; remove the images and the prompt after the time for undoing it."""
        turn = _Turn(now)
        if self.register.deleted_at is None:
            self.register.deleted_at = now
            self._note(turn, "deleted")
            self._want_projection(turn)
        return self._end(turn)

    def undelete(self, now: datetime) -> list[Order]:
        """Take a delete back, while its purge has not begun. What came meanwhile is asked for."""
        turn = _Turn(now)
        register = self.register
        if register.deleted_at is not None and not register.purging and register.purged_at is None:
            register.deleted_at = None
            self._note(turn, "undeleted")
            self._want_projection(turn)
            for output_id, record in register.outputs.items():
                if record.storing:  # its confirm was dropped while deleted
                    turn.orders.append(StoreOutput(output_id))
            if register.dispatch.status == "queued" and register.dispatch.retry_at is None:
                turn.orders.append(Dispatch(register.dispatch.attempt))
            elif self._is_open():
                turn.orders.append(Ask(register.task_uuid, details=True))
        return self._end(turn)

    def record_purge(self, now: datetime) -> list[Order]:
        """The objects are gone: keep id, `task_uuid` and times only."""
        turn = _Turn(now)
        register = self.register
        if register.deleted_at is not None and register.purged_at is None:
            register.spent_micros = costs_micros(register)[0]
            register.purged_at = now
            register.outputs = {}
            register.timeline = []
            register.dispatch.error = None
            if register.projection.error is not None:  # the database's own words may quote what was deleted
                register.projection.error = projection_failed("the read model still has what was deleted")
            turn.orders.append(Forget())
            self._note(turn, "purged")
        return self._end(turn)

    # Time

    def alarm_at(self, now: datetime) -> datetime | None:
        """When `alarm` is to be called next; None when nothing is awaited."""
        register, dispatch = self.register, self.register.dispatch
        expires_at = self._expires_at()
        wishes = [] if expires_at is None else [expires_at]
        if register.deleted_at is not None:
            if not register.purging and register.purged_at is None:
                wishes.append(register.deleted_at + self.policy.undo)
            return min(wishes, default=None)
        if dispatch.status == "queued":
            wishes.append(register.deadline)
            if dispatch.retry_at is not None:
                wishes.append(dispatch.retry_at)
        elif dispatch.status == "sending":
            wishes.append(dispatch.since + self.policy.patience)
        for record in register.outputs.values():
            if record.retry_at is not None:
                wishes.append(record.retry_at)  # noqa: PERF401  a comprehension is a call
        if self._awaits_answer():
            ask_at = next_ask(
                now,
                since=dispatch.since,
                deadline=register.deadline,
                policy=self.policy,
                unknown=dispatch.status == "unknown",
                told=register.timed_out_at is not None or register.over is not None,
            )
            if ask_at is not None:
                wishes.append(ask_at)
        return min(wishes, default=None)

    def alarm(self, now: datetime) -> list[Order]:
        """Do what is due."""
        turn = _Turn(now)
        register, dispatch = self.register, self.register.dispatch
        if register.deleted_at is not None:
            if now >= register.deleted_at + self.policy.undo and not register.purging and register.purged_at is None:
                register.purging = turn.changed = True
                turn.orders.append(Purge())
            elif (expires_at := self._expires_at()) is not None and now >= expires_at:
                turn.orders.append(Expire())
            return self._end(turn)
        if dispatch.status == "queued" and now >= register.deadline:
            self._refuse_unsent(turn)
        elif dispatch.status == "queued" and dispatch.retry_at is not None and now >= dispatch.retry_at:
            dispatch.retry_at = None
            turn.changed = True
            turn.orders.append(Dispatch(dispatch.attempt))
        elif dispatch.status == "sending" and now >= dispatch.since + self.policy.patience:
            self._set_dispatch(turn, "unknown", "its sender has not been heard of")
        for output_id, record in register.outputs.items():
            if record.retry_at is not None and now >= record.retry_at and not record.storing:
                self._store(turn, output_id, record)
        expires_at = self._expires_at()
        if expires_at is not None and now >= expires_at:
            turn.orders.append(Expire())
        elif self._awaits_answer():
            turn.orders.append(Ask(register.task_uuid, details=dispatch.status == "unknown" or now > register.deadline))
        return self._end(turn)

    def _expires_at(self) -> datetime | None:
        """When state may let go of it: complete, in the read model, and with nothing still under way."""
        register, projection = self.register, self.register.projection
        if self.policy.retention is None:
            return None
        over_at = register.completed_at if register.deleted_at is None else register.purged_at
        if over_at is None or projection.asked or projection.error is not None:
            return None
        if register.deleted_at is None:
            if any(record.storing or record.retry_at is not None for record in self._records()):
                return None
            if self._awaits_answer():  # Runware is asked to the last
                over_at = max(over_at, register.deadline + LATE_ASKS[-1])
        return over_at + self.policy.retention

    # Reading

    def spent_micros(self) -> int:
        """What this has cost or may yet cost."""
        return costs_micros(self.register)[0]

    def costs_micros(self) -> tuple[int, int]:
        """See `reading.costs_micros`."""
        return costs_micros(self.register)

    def get_state(self, request: Request) -> GenerationState:
        """See `reading.state_of`."""
        return state_of(self.register, request)

    def outputs(self) -> list[Output]:
        """See `reading.outputs_of`."""
        return outputs_of(self.register)

    # What is open

    def _records(self) -> Iterable[OutputRecord]:
        return self.register.outputs.values()

    def _is_open(self) -> bool:
        """Some slot is empty and nobody has said that it stays so."""
        register = self.register
        return (
            register.dispatch.status in {"accepted", "unknown"}
            and register.timed_out_at is None
            and register.over is None
            and filled(register) < register.expected
        )

    def _awaits_answer(self) -> bool:
        """Whether asking Runware could still bring something. Only its own error says that nothing will come."""
        register = self.register
        return (
            register.dispatch.status in {"accepted", "unknown"}
            and register.over != "error"
            and filled(register) < register.expected
        )

    def _is_complete(self) -> bool:
        """Nothing more is to come, and of what came nothing is still being tried."""
        register = self.register
        return (
            register.over is not None
            or register.timed_out_at is not None
            or register.dispatch.status == "refused"
            or filled(register) >= register.expected
        ) and not self._is_trying()

    def _is_trying(self) -> bool:
        """Whether what became of some output is still open."""
        for record in self.register.outputs.values():  # noqa: SIM110  a generator is a call for each, at every turn
            if record.status == "pending":
                return True
        return False

    # Learning

    def _is_ours(self, fact: Result | Failure) -> bool:
        return fact.task_uuid is None or fact.task_uuid.lower() == self._task_uuid

    def _learn(self, turn: _Turn, facts: Iterable[Fact]) -> None:
        foreign: list[Any] = []
        for fact in facts:
            if isinstance(fact, Invalid):
                self._learn_invalid(turn, fact)
            elif not self._is_ours(fact):
                foreign.append(fact.item if isinstance(fact, Result) else fact.raw)
            elif isinstance(fact, Result):
                self._learn_result(turn, fact)
            else:
                self._learn_failure(turn, fact)
        if foreign:  # as one, so that a body full of them does not push everything else out
            turn.orders.append(KeepUnclaimed("foreign_task", json.dumps({"data": foreign}).encode()))

    def _output_id(self, name: str) -> UUID:
        return uuid5(self.register.id, f"{self._task_uuid}/{name}")

    def _learn_result(self, turn: _Turn, fact: Result) -> None:
        self._accept(turn, proof=True)
        output_id = self._output_id(fact.image_uuid)
        record = self.register.outputs.get(output_id)
        if record is None:
            if filled(self.register) >= self.register.expected + EXTRA_RESULTS:
                turn.orders.append(KeepUnclaimed("too_many_results", json.dumps(fact.item).encode()))
                return
            record = OutputRecord("pending", turn.now, image_uuid=fact.image_uuid, url=fact.url, item=fact.item)
            self.register.outputs[output_id] = record
            self._note(turn, "delivered", fact.image_uuid[:36])
            if fact.url is not None:
                self._store(turn, output_id, record)
            else:
                record.status = "error"
                record.error = content_rejected("no_image", "Runware gave a result without imageURL")
                turn.visible = True
                turn.orders.append(Ask(self.register.task_uuid, details=True))  # it may know the address by now
        elif record.status != "success" and fact.url is not None and self._is_news(record, fact.url):
            if record.url is None:
                record.item = fact.item
            record.spare_urls.append(fact.url)
            turn.changed = True
            if not record.storing:
                self._take_spare(turn, output_id, record)

    def _is_news(self, record: OutputRecord, url: str) -> bool:
        known = (record.url, *record.former_urls, *record.spare_urls)
        return url not in known and len(known) <= FORMER_URLS

    def _take_spare(self, turn: _Turn, output_id: UUID, record: OutputRecord) -> None:
        """Try the next address that Runware gave for the image."""
        if record.url is not None:
            record.former_urls.append(record.url)
        record.url = record.spare_urls.pop(0)
        record.attempts, record.trying_since = 0, None
        self._store(turn, output_id, record)

    def _learn_failure(self, turn: _Turn, fact: Failure) -> None:
        output_id = self._output_id(fact.image_uuid or f"error/{fact.code}")
        error = webhook_error([fact.raw])
        record = self.register.outputs.get(output_id)
        if record is None:
            if fact.image_uuid is None:
                if self._loose(WebhookError) >= LOOSE_ERRORS:
                    return
                self._ask_now(turn)
            elif filled(self.register) >= self.register.expected + EXTRA_RESULTS:
                return
            record = OutputRecord("error", turn.now, image_uuid=fact.image_uuid, error=error)
            self.register.outputs[output_id] = record
            turn.visible = True
            self._note(turn, "error", fact.code[:100])
        elif record.status == "error" and record.url is None and _preferred(error, record.error):
            # Two accounts of one failure: the same one is shown whichever came first.
            record.error, record.item = error, None
            turn.changed = turn.visible = True

    def _learn_invalid(self, turn: _Turn, fact: Invalid) -> None:
        output_id = self._output_id(f"invalid/{fact.digest}")
        if output_id in self.register.outputs or self._loose(None) >= INVALID_DELIVERIES:
            return
        self.register.outputs[output_id] = OutputRecord("error", turn.now, error=validation(fact.issues, fact.raw))
        turn.visible = True
        self._note(turn, "invalid")
        self._ask_now(turn)

    def _loose(self, kind: type[WebhookError] | None) -> int:
        """How many errors fill no slot: Runware's own, or (None) those that did not validate."""
        loose = [record.error for record in self._records() if record.image_uuid is None]
        return sum(is_runwares(error) == (kind is WebhookError) for error in loose)

    def _ask_now(self, turn: _Turn) -> None:
        if self._awaits_answer():
            turn.orders.append(Ask(self.register.task_uuid, details=False))

    # Moving

    def _accept(self, turn: _Turn, *, proof: bool) -> None:
        """Runware has the task. Without `proof` (an error alone) that does not outweigh its refusal for good."""
        dispatch = self.register.dispatch
        if proof and not dispatch.proven:
            dispatch.proven = turn.changed = True
        if dispatch.status == "refused":
            if not dispatch.proven:
                return
            turn.visible = True  # the error that the client sees is gone
        if dispatch.status != "accepted":
            dispatch.retry_at = dispatch.error = None
            dispatch.accepted_at = turn.now
            self._set_dispatch(turn, "accepted")

    def _refuse(self, turn: _Turn, error: DispatchError) -> None:
        self.register.dispatch.error = error
        self.register.dispatch.retry_at = None
        self._set_dispatch(turn, "refused", error.code)
        turn.visible = True

    def _refuse_unsent(self, turn: _Turn) -> None:
        dispatch = self.register.dispatch
        self._refuse(
            turn, dispatch.error or network_error("it was not sent before its deadline", attempts=dispatch.attempt - 1)
        )

    def _set_dispatch(self, turn: _Turn, status: DispatchStatus, note: str | None = None) -> None:
        self.register.dispatch.status = status
        self.register.dispatch.since = turn.now
        self._note(turn, "dispatching" if status == "sending" else status, note)

    def _store(self, turn: _Turn, output_id: UUID, record: OutputRecord) -> None:
        record.storing, record.retry_at = True, None
        turn.changed = True
        turn.orders.append(StoreOutput(output_id))

    def _not_stored(self, turn: _Turn, record: OutputRecord, failed: NotStored) -> None:
        if not record.storing or failed.url != record.url:  # a repeat
            return
        record.storing = False
        turn.changed = True
        if record.spare_urls:
            self._take_spare(turn, failed.output_id, record)
            return
        record.attempts += 1
        record.trying_since = record.trying_since or turn.now
        worth = worth_trying(failed.error)
        window = {"no": timedelta(0), "briefly": self.policy.store_patience, "long": STORE_WINDOW}[worth]
        wait = backoff(record.attempts, cap=STORE_CAP, seed=failed.output_id, wish=failed.retry_after)
        patience_ends = record.trying_since + self.policy.store_patience
        patience_is_over = turn.now >= patience_ends
        if not patience_is_over and turn.now + wait > patience_ends:
            # The client learns of the trouble when patience ends, and not a wait later.
            wait = patience_ends - turn.now
        if turn.now + wait <= record.trying_since + window:
            record.retry_at = turn.now + wait
        if record.retry_at is None or patience_is_over or record.status == "error":
            if record.error != failed.error:
                turn.visible = True
            if record.status == "pending":
                self._note(turn, "error", failed.error.code)
            record.status, record.error = "error", failed.error
        if isinstance(failed.error, FetchFailed) and failed.error.status in {403, 404, 410} and not record.asked:
            record.asked = True
            record.former_urls = []  # what was given up for this one may have been the better
            turn.orders.append(Ask(self.register.task_uuid, details=True))

    # Projecting and ending a call

    def _want_projection(self, turn: _Turn) -> None:
        projection = self.register.projection
        projection.wanted = self.register.version + 1
        turn.changed = True
        if not projection.asked:
            projection.asked = True
            turn.orders.append(Project())

    def _projection_ended(self, turn: _Turn, version: int) -> None:
        projection = self.register.projection
        projection.asked = False
        turn.changed = True
        if projection.wanted > version:
            projection.asked = True
            turn.orders.append(Project())

    def _note(self, turn: _Turn, event: str, note: str | None = None) -> None:
        turn.changed = True
        if len(self.register.timeline) < TIMELINE_ENTRIES:
            self.register.timeline.append(Happening(turn.now, event, note))

    def _end(self, turn: _Turn) -> list[Order]:
        register = self.register
        if register.completed_at is None and register.purged_at is None and self._is_complete():
            register.completed_at = turn.now
            self._note(turn, "completed")
            turn.visible = True
        if turn.visible:
            turn.changed = True
            if register.completed_at is not None:
                self._want_projection(turn)
        if turn.changed:
            register.version += 1
        return turn.orders


def _preferred(new: WebhookError, old: OutputError | None) -> bool:
    """Whether `new` is shown rather than `old`: Runware's words before our own, then the first in order of text."""
    if isinstance(old, WebhookError):
        return rank(new) < rank(old)
    return isinstance(old, ContentRejected)
