"""`batch`: thousands of requests from a file, so many at once, and none of them paid for twice."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from runware_provider.cli import FAILED, INTERRUPTED, TRY_AGAIN
from runware_provider.cli.batch_bar import Count, bar
from runware_provider.cli.batch_file import Line
from runware_provider.cli.batch_journal import Entry, Journal, Kept
from runware_provider.cli.batch_plan import Source, check
from runware_provider.cli.batch_report import Report, report
from runware_provider.cli.client import Api
from runware_provider.cli.connection import connected
from runware_provider.cli.console import err, say
from runware_provider.cli.failures import Answered, Damaged
from runware_provider.cli.fields import Fields
from runware_provider.cli.files import intact, write_whole
from runware_provider.cli.following import Following
from runware_provider.cli.generate import expect_writable
from runware_provider.cli.names import air_of
from runware_provider.cli.options import MODEL
from runware_provider.cli.patience import Impatient, Patience, not_configured
from runware_provider.cli.recipes import SUFFIX, recipe_of, written
from runware_provider.errors import StateUnavailable
from runware_provider.settings import Settings
from runware_provider.words import explain

FREE = {"fetch_failed", "storage_failed"}
"""What failed after Runware had made the image: trying again costs nothing."""

RETRY_WAIT = 30.0
"""Seconds that such an image is waited for."""


DELETED = "was deleted from the service"


class _Failure(Exception):
    """What became of a request that has no image, or not all; kept in the journal."""


async def batch(
    settings: Settings,
    path: Path,
    folder: Path,
    defaults: Fields,
    *,
    in_flight: int,
    retry_failed: bool,
    as_json: bool,
) -> int:
    """Make everything that a file asks for. 0 when all is there, 1 when some failed, 75 when it stopped before the end.

    The journal in `folder` makes the same command go on where it stopped. Raises InvalidArgs before anything is spent.
    """
    source = await asyncio.to_thread(check, path, Fields({"model": MODEL, **defaults.input}, defaults.labels))
    expect_writable(folder)
    journal = Journal.open(folder)
    try:
        async with connected(settings, work=True) as api:
            work = Batch(api, source, journal, folder, retry_failed=retry_failed)
            await work.prepare(path)
            result, stopped = Report(path, folder, journal, source, retry_failed=retry_failed), ""
            try:
                with bar(work.count, show=not as_json):
                    await work.run(in_flight)
                stopped = work.stopping
            except (Answered, StateUnavailable) as error:
                if not_configured(error):
                    raise
                stopped = str(error)
            except asyncio.CancelledError:
                stopped = "interrupted"
                raise
            finally:
                # Also after Ctrl-C: what was paid for is told.
                failed = report(result, stopped, passing=api.passing, as_json=as_json)
    except asyncio.CancelledError:
        return INTERRUPTED
    finally:
        journal.close()
    if stopped:
        return TRY_AGAIN
    return FAILED if failed else 0


class Batch:
    """A batch at work. `stopping`: why nothing more is sent."""

    def __init__(self, api: Api, source: Source, journal: Journal, folder: Path, *, retry_failed: bool) -> None:
        self._api = api
        self._source = source
        self._journal = journal
        self._folder = folder
        self._retry_failed = retry_failed
        self._stems: set[str] = set()
        self.count = Count(source.count)
        self.stopping = ""
        self._patiently = Patience(api, pointless=lambda: bool(self.stopping))
        self._following = Following(api, self._patiently)

    async def prepare(self, path: Path) -> None:
        """Find the models, and say what is there already. Nothing is spent. Raises InvalidArgs."""
        for name in sorted(self._source.names - self._journal.models.keys()):
            air = await air_of(self._api, name, option=f"model in {path}")
            # What a name meant is kept: the catalogue's order may change, and everything would be another request.
            self._journal.models[name] = air
            await self._journal.note(models={name: air})
        self._stems = await asyncio.to_thread(_stems_in, self._folder)
        entries = self._journal.entries
        self._stems |= {entry.stem for entry in entries.values()}
        if not entries:
            return
        keys = await asyncio.to_thread(lambda: {key for key, _ in self._source.requests(self._journal)})
        known = [entries[key] for key in keys if key in entries]
        done, failed = (sum(each.status == status for each in known) for status in ("done", "failed"))
        there = f"{done:,} of {self.count.total:,} are done" + (f", {failed:,} failed" if failed else "")
        say(err, f"going on: {there}, {len(keys) - done - failed:,} are left")
        gone = len(entries) - len(known)
        if gone:
            say(err, f"{gone:,} of earlier runs are not asked for any more; a request that was changed is a new one")

    async def run(self, in_flight: int) -> None:
        """All requests, `in_flight` of them at once; until the end, or until something says to stop."""
        requests = self._source.requests(self._journal)
        workers = [asyncio.create_task(self._work(requests)) for _ in range(in_flight)]
        try:
            async with self._following.listening():
                await asyncio.gather(*workers)
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)

    async def _work(self, requests: Iterator[tuple[str, Line]]) -> None:
        while not self.stopping:
            key, line = next(requests, (None, None))
            if key is None or line is None:
                return
            try:
                await self._one(key, line)
            except Impatient:
                return

    async def _one(self, key: str, line: Line) -> None:
        entry = self._journal.entries.get(key, Entry())
        if entry.status == "done" and await asyncio.to_thread(self._is_here, entry):
            self._settled(entry, kept=True)
            return
        try:
            await self._made(key, line, entry)
        except _Failure as failure:
            there = [each for each in entry.files if (self._folder / each.name).exists()]
            files = [[each.name, each.size_bytes, each.sha256] for each in there]
            await self._journal.note(key=key, status="failed", why=str(failure)[:500], files=files)
        self._settled(self._journal.entries[key], kept=False)

    async def _made(self, key: str, line: Line, entry: Entry) -> None:
        try:
            state = await self._state(key, line, entry)
        except Answered as error:
            if error.status != 404:
                raise
            raise _Failure(DELETED) from None
        await self._keep(key, line, state)

    async def _state(self, key: str, line: Line, entry: Entry) -> dict[str, Any]:
        """The generation of a request, complete. What was asked for before is looked at first."""
        again = entry.status == "failed" and self._retry_failed
        if entry.id is None and not again:
            if entry.status == "failed":
                raise _Failure(entry.why)
            return await self._sent(key, line, entry.attempt)
        state = None if entry.id is None else await self._seen(entry.id)
        if state is not None and again and not _all_came(state) and FREE & _codes(state):
            return await self._tried_again(state)
        if again and (state is None or not _all_came(state)):
            return await self._sent(key, line, entry.attempt + 1)
        if state is None:
            raise _Failure(DELETED)
        return state

    async def _seen(self, id: str) -> dict[str, Any] | None:
        """A generation once it is complete; None when it was deleted."""
        try:
            state = await self._patiently(lambda: self._api.get(f"/v1/generations/{id}"))
            return await self._complete(state)
        except Answered as error:
            if error.status != 404:
                raise
            return None

    async def _sent(self, key: str, line: Line, attempt: int) -> dict[str, Any]:
        """Ask for it. The same attempt has the same key, so that to send it twice is to send it once."""
        if attempt > 1:
            await self._journal.note(key=key, attempt=attempt)
        body = {"input": line.input, "metadata": line.labels}
        name = f"{self._journal.batch}-{key}-{attempt}"
        try:
            state = await self._patiently(
                lambda: self._api.send("POST", "/v1/generations", body, key=name), sending=True
            )
        except Answered as error:
            await self._refused(key, attempt, error)
            raise _Failure(str(error)) from None
        await self._journal.note(key=key, attempt=attempt, id=state["id"], stem=self._claim(line.number))
        return await self._complete(state)

    async def _refused(self, key: str, attempt: int, error: Answered) -> None:
        """Raises Impatient when what refused this request would refuse all others too."""
        id = error.problem.get("generation_id")
        if not_configured(error):
            raise error
        if error.status in {402, 500, 502, 503}:
            if id:  # this attempt is spent, though it cost nothing
                await self._journal.note(key=key, attempt=attempt + 1)
            self.stopping = self.stopping or str(error)
            raise Impatient
        await self._journal.note(key=key, attempt=attempt, id=id)

    async def _complete(self, state: dict[str, Any]) -> dict[str, Any]:
        """The state once all images are stored or failed; without a service also once the database knows."""
        return await self._following.until(state, "settled" if self._api.passing else "completed_at")

    async def _tried_again(self, state: dict[str, Any]) -> dict[str, Any]:
        """Failed images once more that Runware has made already. Costs nothing."""
        path = f"/v1/generations/{state['id']}"
        await self._patiently(lambda: self._api.send("POST", f"{path}/retry"))
        until = asyncio.get_running_loop().time() + RETRY_WAIT
        while not _all_came(state) and asyncio.get_running_loop().time() < until:
            await asyncio.sleep(0.2)
            state = await self._patiently(lambda: self._api.get(path))
        return state

    async def _keep(self, key: str, line: Line, state: dict[str, Any]) -> None:
        """Write what came into the folder, each image with its recipe."""
        entry = self._journal.entries[key]
        if not entry.stem:
            await self._journal.note(key=key, stem=self._claim(line.number))
        files: list[Kept] = []
        stored = [output for output in state["outputs"] if output["type"] == "success"]
        for number, output in enumerate(stored, 1):
            name = f"{entry.stem}-{number}.{output['key'].rpartition('.')[2]}"
            kept = Kept(name, output["size_bytes"], output["sha256"])
            file = self._folder / name
            if not await asyncio.to_thread(intact, file, kept.size_bytes, kept.sha256):
                await self._fetched(f"/v1/generations/{state['id']}/outputs/{output['id']}/content", file, kept.sha256)
            write_whole(file.with_suffix(SUFFIX), written(recipe_of(state, output)))
            files.append(kept)
        whole = _all_came(state)
        await self._journal.note(
            key=key,
            status="done" if whole else "failed",
            files=[[each.name, each.size_bytes, each.sha256] for each in files],
            cost_micros=sum(output["cost_micros"] or 0 for output in stored),
            unpriced=sum(output["cost_micros"] is None for output in stored),
            why="" if whole else _why(state)[:500],
        )

    async def _fetched(self, path: str, file: Path, sha256: str) -> None:
        try:
            await self._patiently(lambda: self._api.download(path, file, sha256=sha256))
        except (Answered, Damaged) as error:
            raise _Failure(f"made, but the service cannot give it: {error}") from None

    def _is_here(self, entry: Entry) -> bool:
        """Whether everything of a request lies in the folder as it was written."""
        return all(
            intact(self._folder / each.name, each.size_bytes, each.sha256)
            and (self._folder / each.name).with_suffix(SUFFIX).exists()
            for each in entry.files
        )

    def _claim(self, number: int) -> str:
        """What the names of a request's files begin with: its line's number, unless that is another's already."""
        stem, copy = f"{number:04}", 1
        while stem in self._stems:
            copy += 1
            stem = f"{number:04}.{copy}"
        self._stems.add(stem)
        return stem

    def _settled(self, entry: Entry, *, kept: bool) -> None:
        count = self.count
        count.settled += 1
        count.kept += kept
        count.failed += entry.status == "failed"
        count.images += 0 if kept else len(entry.files)
        count.cost_micros += entry.cost_micros + entry.earlier_micros


def _stems_in(folder: Path) -> set[str]:
    """What names in a folder begin with; nothing of it is written over."""
    return {path.name.rpartition("-")[0] for path in folder.iterdir()}


def _all_came(state: dict[str, Any]) -> bool:
    return bool(state["counts"]["stored"] >= state["counts"]["expected"])


def _codes(state: dict[str, Any]) -> set[str]:
    return {output["error"]["code"] for output in state["outputs"] if output["type"] == "error"}


def _why(state: dict[str, Any]) -> str:
    errors = [output["error"] for output in state["outputs"] if output["type"] == "error"]
    first = state["error"] or (errors[0] if errors else None)
    words = explain(first) if first else "no image came"
    counts = state["counts"]
    return f"{counts['stored']} of {counts['expected']} came; {words}" if counts["stored"] else words
