"""The ledger: what the simulator was asked, what it billed and what it delivered.

It remembers a bounded number of tasks, the oldest finished ones being forgotten first; the totals stay exact.
"""

import asyncio
from collections import OrderedDict
from dataclasses import asdict, dataclass, field
from typing import Literal

from runware_provider.simulator.pictures import Picture
from runware_provider.simulator.validation import Inference
from runware_provider.simulator.wire import JsonObject

MAX_DELIVERIES_KEPT = 128


@dataclass(slots=True)
class Result:
    """One result of a billed run: an image, or an error in its place."""

    task_uuid: str
    image_uuid: str
    index: int
    seed: int
    cost_micros: int
    picture: Picture
    url: str | None
    expires_at: float
    omitted: tuple[str, ...] = ()
    error: JsonObject | None = None
    names_image: bool = True
    finished: bool = False


@dataclass(slots=True)
class Delivery:
    """One webhook on its way; `status` is that of the last answer, None when there was none."""

    image_uuid: str | None
    kind: str
    outcome: Literal["pending", "confirmed", "failed", "dropped"] = "pending"
    attempts: int = 0
    status: int | None = None


@dataclass(slots=True)
class Run:
    """One billed run of a task: what was asked, and what came of it so far."""

    task: Inference
    request: bytes
    results: list[Result]
    error: JsonObject | None = None
    http_status: int = 500
    finished: bool = False
    work: "asyncio.Task[None] | None" = None
    tried: asyncio.Event | None = None
    batch: list[Result] = field(default_factory=list)


@dataclass(slots=True)
class Entry:
    """All that is known of one task id. `billed` counts accepted runs; more than 1 is money paid twice."""

    task_uuid: str
    dispatches: int = 0
    billed: int = 0
    refused: int = 0
    conflicts: int = 0
    results: list[Result] = field(default_factory=list)
    deliveries: list[Delivery] = field(default_factory=list)
    deliveries_not_kept: int = 0
    run: Run | None = None
    details: Run | None = None

    @property
    def running(self) -> bool:
        """Whether a run is going on; sending the id again is then a conflict."""
        return self.run is not None and not self.run.finished

    @property
    def cost_micros(self) -> int:
        """What the task has cost so far, in millionths of a US dollar."""
        return sum(result.cost_micros for result in self.results if result.finished and result.error is None)

    def as_json(self) -> JsonObject:
        """The entry as `/_simulator/ledger` shows it; `cost` in US dollars."""
        return {
            "task_uuid": self.task_uuid,
            "dispatches": self.dispatches,
            "billed": self.billed,
            "refused": self.refused,
            "conflicts": self.conflicts,
            "running": self.running,
            "cost": self.cost_micros / 1e6,
            "results": [
                {
                    "image_uuid": result.image_uuid,
                    "index": result.index,
                    "seed": result.seed,
                    "cost": result.cost_micros / 1e6,
                    "url": result.url,
                    "finished": result.finished,
                    "error": result.error,
                }
                for result in self.results
            ],
            "webhooks": [asdict(delivery) for delivery in self.deliveries],
            "webhooks_not_kept": self.deliveries_not_kept,
        }


@dataclass(slots=True)
class Totals:
    """Exact counts since the start or the last reset; `peak_running` is the most tasks that ran at once."""

    dispatches: int = 0
    billed: int = 0
    billed_again: int = 0
    refused: int = 0
    conflicts: int = 0
    results: int = 0
    result_errors: int = 0
    cost_micros: int = 0
    running: int = 0
    peak_running: int = 0
    responses: int = 0
    details: int = 0
    searches: int = 0
    webhooks_confirmed: int = 0
    webhooks_failed: int = 0
    webhooks_dropped: int = 0
    webhooks_pending: int = 0
    webhook_attempts: int = 0
    cdn_hits: int = 0
    cdn_errors: int = 0
    cdn_bytes: int = 0
    forgotten: int = 0


class Ledger:
    """Task ids to entries, and image ids to results. Safe to read from another thread."""

    def __init__(self, remember: int = 100_000) -> None:
        self.totals = Totals()
        self._remember = remember
        self._entries: OrderedDict[str, Entry] = OrderedDict()
        self._images: dict[str, Result] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def entry(self, task_uuid: str) -> Entry | None:
        """What is known of a task, or None when it was never seen (or is forgotten)."""
        return self._entries.get(task_uuid)

    def entries(self, offset: int = 0, limit: int = 100) -> list[Entry]:
        """Entries in the order in which they were first seen."""
        return list(self._entries.values())[offset : offset + limit]

    def image(self, image_uuid: str) -> Result | None:
        """The result behind an image URL."""
        return self._images.get(image_uuid)

    @property
    def billed_more_than_once(self) -> list[Entry]:
        """The remembered tasks that were paid twice."""
        return [entry for entry in list(self._entries.values()) if entry.billed > 1]

    def open(self, task_uuid: str) -> Entry:
        """The entry of a task, made when there is none; may forget the oldest finished one."""
        entry = self._entries.get(task_uuid)
        if entry is None:
            # Room first: the new entry is not running yet, and must not be the one to go.
            if len(self._entries) >= self._remember:
                self._forget_one()
            entry = self._entries[task_uuid] = Entry(task_uuid)
        return entry

    def bill(self, entry: Entry, run: Run) -> None:
        """Record that a run was accepted: this is where money is spent."""
        totals = self.totals
        totals.billed += 1
        totals.billed_again += entry.billed > 0
        totals.running += 1
        totals.peak_running = max(totals.peak_running, totals.running)
        entry.billed += 1
        entry.run = run
        entry.results.extend(run.results)

    def finish_result(self, result: Result) -> None:
        """Record that a result is there; its image can be fetched from now on."""
        result.finished = True
        if result.error is not None:
            self.totals.result_errors += 1
            return
        self.totals.results += 1
        self.totals.cost_micros += result.cost_micros
        self._images[result.image_uuid] = result

    def finish_run(self, entry: Entry, run: Run) -> None:
        """Record that a run is over: from now on `getTaskDetails` knows it."""
        run.finished = True
        run.work = None
        entry.details = run
        self.totals.running -= 1

    def keep_delivery(self, entry: Entry, delivery: Delivery) -> None:
        """Note a webhook with its task; beyond 128 a task they are only counted."""
        if len(entry.deliveries) < MAX_DELIVERIES_KEPT:
            entry.deliveries.append(delivery)
        else:
            entry.deliveries_not_kept += 1

    def reset(self) -> None:
        """Forget all tasks that are not running and set the totals to nothing."""
        running = OrderedDict((key, entry) for key, entry in self._entries.items() if entry.running)
        self._entries = running
        self._images = {
            result.image_uuid: result
            for entry in running.values()
            for result in entry.results
            if result.finished and result.error is None
        }
        pending = self.totals.webhooks_pending
        self.totals = Totals(running=len(running), peak_running=len(running), webhooks_pending=pending)

    def _forget_one(self) -> None:
        # Running tasks are few beside those remembered; those met here are looked at again when they are the oldest.
        for _ in range(64):
            key, entry = self._entries.popitem(last=False)
            if not entry.running:
                for result in entry.results:
                    self._images.pop(result.image_uuid, None)
                self.totals.forgotten += 1
                return
            self._entries[key] = entry
