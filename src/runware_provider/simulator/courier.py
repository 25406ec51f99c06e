"""The courier: what is sent to a task's webhook for each of its results, with the faults that are staged on the way."""

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any
from uuid import NAMESPACE_OID, uuid5

from runware_provider.simulator.bodies import encode_poisoned, error_body, malformed, poisoned, result_body
from runware_provider.simulator.darkroom import Darkroom
from runware_provider.simulator.faults import Fault, Staging, Subject, first_of
from runware_provider.simulator.faults.delivery import (
    WebhookBody,
    WebhookDelay,
    WebhookDrop,
    WebhookDuplicate,
    WebhookForeign,
    WebhookMalformed,
    WebhookPoison,
    WebhookProcessing,
    WebhookReorder,
    WebhookWithoutUrl,
)
from runware_provider.simulator.items import error_of, item_of
from runware_provider.simulator.ledger import Delivery, Entry, Ledger, Result, Run
from runware_provider.simulator.options import SimulatorOptions
from runware_provider.simulator.webhooks import WebhookSender
from runware_provider.simulator.wire import JsonObject

Spawn = Callable[[Coroutine[Any, Any, None]], object]


class Courier:
    """One delivery per result, or one for a task that failed as a whole."""

    def __init__(
        self,
        options: SimulatorOptions,
        staging: Staging,
        ledger: Ledger,
        darkroom: Darkroom,
        sender: WebhookSender,
        spawn: Spawn,
    ) -> None:
        self._options = options
        self._staging = staging
        self._ledger = ledger
        self._darkroom = darkroom
        self._sender = sender
        self._spawn = spawn

    def announce(self, entry: Entry, run: Run, result: Result | None, latency: float) -> None:
        """Have a finished result delivered, or with None the error of the whole task, `latency` seconds from now."""
        self._begin(entry, result, partial(self._bring, entry, run, result, latency))

    def _begin(self, entry: Entry, result: Result | None, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Start a delivery, unless too many are on their way already. It is pending from now on."""
        if self._ledger.totals.webhooks_pending >= self._options.max_pending_webhooks:
            self._drop(entry, result)
            return
        self._ledger.totals.webhooks_pending += 1
        self._spawn(self._pending(work()))

    async def _pending(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        finally:
            self._ledger.totals.webhooks_pending -= 1

    async def _bring(self, entry: Entry, run: Run, result: Result | None, latency: float) -> None:
        subject = Subject(entry.task_uuid, run.task.prompt, result.image_uuid if result is not None else "")
        faults = self._staging.firing("webhook", "row", subject)
        if first_of(WebhookDrop, faults) is not None:
            self._drop(entry, result)
            return
        items = [result] if result is not None else []
        shape = self._shape(faults)
        work = run.work
        if result is not None and shape == "batch":
            run.batch.append(result)
            if run.batch[0] is not result:
                return  # the first of the batch carries the others
            await _over(work)
            items = run.batch
        reorder = first_of(WebhookReorder, faults)
        if reorder is not None:
            await _over(work)
            last = max((other.index for other in run.results), default=0)
            latency += reorder.seconds * (last - (result.index if result is not None else 0))
        latency += sum(fault.seconds for fault in faults if isinstance(fault, WebhookDelay))
        if latency:
            await asyncio.sleep(latency)
        if faults:
            await self._send_before(entry, run, result, faults)
        await self._send_real(entry, run, result, items, faults)

    async def _send_before(self, entry: Entry, run: Run, result: Result | None, faults: list[Fault]) -> None:
        """What comes ahead of the real body."""
        processing = first_of(WebhookProcessing, faults)
        for _ in range(processing.times if processing is not None else 0):
            item = {"taskType": "imageInference", "taskUUID": entry.task_uuid, "status": "processing"}
            await self._send(entry, run, result, "processing", result_body([item], self._shape(faults)))
        ahead = first_of(WebhookMalformed, faults)
        if ahead is not None and ahead.also:
            body = await self._body(run, [result] if result is not None else [], faults)
            await self._send(entry, run, result, "malformed", malformed(ahead.kind, body))

    async def _send_real(
        self, entry: Entry, run: Run, result: Result | None, items: list[Result], faults: list[Fault]
    ) -> None:
        body: object = await self._body(run, items, faults)
        kind = "error" if result is None or result.error is not None else "result"
        instead = first_of(WebhookMalformed, faults)
        if instead is not None and not instead.also:
            kind, body = "malformed", malformed(instead.kind, body)
        without = first_of(WebhookWithoutUrl, faults)
        if without is not None and kind == "result":
            bare = await self._body(run, items, faults, with_url=False)
            await self._send(entry, run, result, "without_url", bare)
            if without.later is None:
                return
            await asyncio.sleep(without.later)
        duplicate = first_of(WebhookDuplicate, faults)
        for number in range(duplicate.times if duplicate is not None else 0):
            pause = duplicate.seconds * (number + 1) if duplicate is not None else 0
            self._begin(entry, result, partial(self._again, entry, run, result, body, pause))
        await self._send(entry, run, result, kind, body)

    async def _again(self, entry: Entry, run: Run, result: Result | None, body: object, pause: float) -> None:
        if pause:
            await asyncio.sleep(pause)
        await self._send(entry, run, result, "duplicate", body)

    async def _send(self, entry: Entry, run: Run, result: Result | None, kind: str, body: object) -> None:
        url = run.task.webhook_url
        if url is None:
            return
        delivery = Delivery(result.image_uuid if result is not None else None, kind)
        self._ledger.keep_delivery(entry, delivery)
        data = body if isinstance(body, bytes) else encode_poisoned(body)
        await self._sender.send(url, data, delivery, run.tried)

    async def _body(self, run: Run, results: list[Result], faults: list[Fault], *, with_url: bool = True) -> JsonObject:
        """The real body; errors of several results in a batch come as `errors` beside the `data`."""
        wanted = first_of(WebhookBody, faults)
        error_shape = self._options.webhook_error_shape
        if wanted is not None and wanted.error_shape is not None:
            error_shape = wanted.error_shape
        status = self._options.webhook_status
        if wanted is not None and wanted.status is not None:
            status = wanted.status
        errors = [error_of(run.task, result.error, result) for result in results if result.error is not None]
        if not results:
            errors = [error_of(run.task, run.error or {})]
        items = [await item_of(run.task, result, self._darkroom) for result in results if result.error is None]
        if not items:
            return error_body(errors[0], error_shape) if len(errors) == 1 else {"errors": errors}
        body = result_body(self._tampered(items, faults, with_url=with_url), self._shape(faults), status=status)
        return {**body, "errors": errors} if errors else body

    def _tampered(self, items: list[JsonObject], faults: list[Fault], *, with_url: bool) -> list[JsonObject]:
        if not with_url:
            items = [{key: value for key, value in item.items() if key != "imageURL"} for item in items]
        poison = first_of(WebhookPoison, faults)
        if poison is not None:
            items = [poisoned(item, poison.kind) for item in items]
        foreign = first_of(WebhookForeign, faults)
        if foreign is not None:
            strangers = [{**item, "taskUUID": stranger(item["taskUUID"])} for item in items]
            items = strangers + items if foreign.also else strangers
        return items

    def _shape(self, faults: list[Fault]) -> Any:
        wanted = first_of(WebhookBody, faults)
        return wanted.shape if wanted is not None and wanted.shape is not None else self._options.webhook_shape

    def _drop(self, entry: Entry, result: Result | None) -> None:
        self._ledger.totals.webhooks_dropped += 1
        dropped = Delivery(result.image_uuid if result is not None else None, "result", outcome="dropped")
        self._ledger.keep_delivery(entry, dropped)


async def _over(work: "asyncio.Task[None] | None") -> None:
    """Wait until the run is over and the deliveries that it began have begun."""
    if work is not None:
        await asyncio.wait({work})
    await asyncio.sleep(0)


def stranger(task_uuid: str) -> str:
    """A task id that is not `task_uuid`, but looks like one and is always the same for it."""
    digits = uuid5(NAMESPACE_OID, task_uuid).hex
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-a{digits[17:20]}-{digits[20:]}"
