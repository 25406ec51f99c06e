"""Images kept in a process of their own: the same outcomes, and what its death does to them."""

import asyncio
import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import pytest
from pydantic import SecretStr

from runware_provider.artifacts import Artifacts, BucketAccess, NotKept
from runware_provider.artifacts.keeper_process import KeeperDied
from runware_provider.artifacts.keeper_wire import MAX_LINE, Lines, plan_line, read_plan
from runware_provider.artifacts.plan import Plan
from runware_provider.durable.owner import Owner
from runware_provider.errors import StorageFailed
from tests.artifacts.buckets import Bucket
from tests.artifacts.cdn import Answer, Cdn, Writer, body, chunked, closed, endless, head, raw, redirect
from tests.artifacts.conftest import GENERATION, OUTPUT, Opener, content, files, keep, refusal
from tests.artifacts.pictures import a_jpeg_of, a_picture
from tests.e2e.processes import alive
from tests.service import eventually


@pytest.fixture
async def apart(open_artifacts: Opener) -> Artifacts:
    return await open_artifacts(apart=True)


def children(parent: int | None = None) -> list[int]:
    """The processes that this one, or `parent`, has begun and that keep images."""
    parent = parent or os.getpid()
    found = []
    for pid in map(int, Path(f"/proc/{parent}/task/{parent}/children").read_text().split()):
        with suppress(OSError):
            if b"keeper_child" in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.append(pid)
    return found


async def the_child() -> int:
    """Its pid, once there is one."""
    await eventually(lambda: bool(children()))
    (pid,) = children()
    return pid


async def killing(writer: Writer) -> None:
    """An answer in the middle of which the process that asked for the image is killed."""
    writer.write(head(Content_Length=1_000_000))
    await writer.drain()
    for pid in children():
        os.kill(pid, signal.SIGKILL)


ANSWERS: dict[str, Answer] = {
    "/whole": body(a_picture()),
    "/large": body(a_jpeg_of(600_000)),
    "/chunked": chunked(a_picture()),
    "/closed": closed(a_picture()),
    "/gone": body(b"no such image", "404 Not Found"),
    "/busy": body(b"later", "503 Service Unavailable", Retry_After="7"),
    "/page": body(b"<html>not an image</html>"),
    "/cut": raw(head(Content_Length=10_000), a_picture()[:500]),
    "/endless": endless(a_jpeg_of(500_000)),
    "/away": redirect("https://example.com/image.jpg"),
}


@pytest.mark.parametrize("path", ANSWERS)
async def test_what_comes_of_an_image_is_the_same_apart(
    open_artifacts: Opener, cdn: Cdn, tmp_path: Path, path: str
) -> None:
    """Kept or not, every word and number of it."""

    async def outcome(artifacts: Artifacts) -> object:
        try:
            return await keep(artifacts, cdn.says(ANSWERS[path], path), attempt=3)
        except NotKept as refusal:
            return refusal.error, refusal.retry_after

    here = await open_artifacts(f"file://{tmp_path}/here")
    apart = await open_artifacts(data_dir=tmp_path / "apart", apart=True)
    assert await outcome(here) == await outcome(apart)


async def test_it_keeps_what_the_service_reads_and_removes(apart: Artifacts, cdn: Cdn, tmp_path: Path) -> None:
    """Also into a folder that the service has removed meanwhile."""
    picture = a_picture()
    url = cdn.says(body(picture))
    for _ in range(2):
        stored = await keep(apart, url)
        assert await content(apart, stored.key) == picture
        assert await apart.purge(GENERATION) == 1
    assert files(tmp_path) == []


async def test_into_a_bucket_with_a_secret_that_no_command_line_shows(
    open_artifacts: Opener, bucket: Bucket, cdn: Cdn
) -> None:
    """`ps` shows command lines to everybody on the machine, and an environment is inherited."""
    picture = a_picture()
    artifacts = await open_artifacts(bucket.url, bucket_access=bucket.access, apart=True)
    stored = await keep(artifacts, cdn.says(body(picture)))

    assert await content(artifacts, stored.key) == picture
    assert bucket.access.secret_access_key is not None
    secret = bucket.access.secret_access_key.get_secret_value().encode()
    seen = Path(f"/proc/{await the_child()}")
    for name in ("cmdline", "environ"):
        assert secret not in await asyncio.to_thread((seen / name).read_bytes)


async def test_memory_is_kept_in_the_service_itself(open_artifacts: Opener, cdn: Cdn) -> None:
    """Another process would have a memory of its own."""
    artifacts = await open_artifacts("memory://", apart=True)
    stored = await keep(artifacts, cdn.says(body(a_picture())))

    assert await content(artifacts, stored.key) == a_picture()
    assert children() == []


# Its death


async def test_who_was_on_the_way_when_it_died_is_kept_all_the_same(apart: Artifacts, cdn: Cdn) -> None:
    """Nobody but the log hears of a process that was killed once."""
    picture = a_picture()
    arrived = asyncio.Event()

    async def slow(writer: Writer) -> None:
        if not arrived.is_set():
            arrived.set()
            await asyncio.Event().wait()
        await body(picture)(writer)

    for number in range(8):
        cdn.says(slow, f"/{number}")
    keeping = [
        asyncio.create_task(apart.keep(GENERATION, UUID(int=each), cdn.url(f"/{each}"), attempt=1)) for each in range(8)
    ]
    await arrived.wait()
    first = await the_child()
    os.kill(first, signal.SIGKILL)

    stored = await asyncio.gather(*keeping)
    assert len({each.key for each in stored}) == 8
    assert await the_child() != first


async def test_the_image_that_kills_it_is_found_and_harms_no_other(apart: Artifacts, cdn: Cdn) -> None:
    """It alone has failed; those that came with it and after it are kept."""
    picture = a_picture()
    cdn.says(killing, "/poison")

    async def slow(writer: Writer) -> None:
        await asyncio.sleep(0.1)
        await body(picture)(writer)

    cdn.says(slow, "/slow")
    good = [
        asyncio.create_task(apart.keep(GENERATION, UUID(int=each), cdn.url("/slow"), attempt=1)) for each in range(6)
    ]
    bad = asyncio.create_task(apart.keep(GENERATION, OUTPUT, cdn.url("/poison"), attempt=1))

    with pytest.raises(KeeperDied):
        await bad
    assert len(await asyncio.gather(*good)) == 6
    assert (await keep(apart, cdn.url("/slow"))).width > 0


async def test_what_a_dead_one_spooled_is_removed(apart: Artifacts, cdn: Cdn, tmp_path: Path) -> None:
    """The next start would, but a service may run for months."""
    large = a_jpeg_of(600_000)
    cdn.says(raw(head(Content_Length=len(large)), large[:400_000], stall=True), "/stalls")
    keeping = asyncio.create_task(keep(apart, cdn.url("/stalls")))
    await eventually(lambda: bool(files(tmp_path / "data/tmp")))
    cdn.says(body(a_picture()), "/stalls")
    os.kill(await the_child(), signal.SIGKILL)

    await keeping
    await eventually(lambda: not files(tmp_path / "data/tmp"))


async def test_one_that_cannot_begin_fails_no_image_for_good(
    open_artifacts: Opener, cdn: Cdn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No program, no memory: the image is worth trying for as long as the store's patience goes."""
    for program in ("/nowhere/python", "/bin/false"):
        monkeypatch.setattr(sys, "executable", program)
        artifacts = await open_artifacts(apart=True)
        failed = await refusal(artifacts, cdn.says(body(a_picture())))
        assert isinstance(failed.error, StorageFailed)
        assert "no process" in failed.error.message
        monkeypatch.undo()
        assert (await keep(artifacts, cdn.url("/image"))).width > 0


async def test_a_terminals_ctrl_c_and_a_groups_sigterm_do_not_reach_it(apart: Artifacts, cdn: Cdn) -> None:
    """It ends when the service has said so, after what is being written."""
    await keep(apart, cdn.says(body(a_picture())))
    pid = await the_child()
    for number in (signal.SIGINT, signal.SIGTERM):
        os.kill(pid, number)

    await keep(apart, cdn.url("/image"))
    assert pid == await the_child()


@contextmanager
def on_cores(cores: set[int]) -> Iterator[None]:
    """This process, and those that it begins, on these."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


async def test_of_two_cores_it_leaves_one_to_the_service(open_artifacts: Opener, cdn: Cdn) -> None:
    """Its threads have the other. Of one core it has that one."""
    cores = sorted(os.sched_getaffinity(0))
    for given in (cores[:2], cores[:1]):
        with on_cores(set(given)):
            artifacts = await open_artifacts(apart=True)
            await keep(artifacts, cdn.says(body(a_picture())))

            (core,) = os.sched_getaffinity(await the_child())
            assert core in given
            assert os.sched_getaffinity(0) == set(given)
            await artifacts.aclose()


# Its end


async def test_closing_ends_it(open_artifacts: Opener, cdn: Cdn) -> None:
    """Whether it has kept anything or not."""
    artifacts = await open_artifacts(apart=True)
    await keep(artifacts, cdn.says(body(a_picture())))
    assert children()
    await artifacts.aclose()
    assert children() == []
    unused = await open_artifacts(apart=True)
    await unused.aclose()
    assert children() == []


async def test_a_cancelled_keep_waits_for_what_is_being_done(apart: Artifacts, cdn: Cdn, tmp_path: Path) -> None:
    """And leaves nothing lying about."""
    cdn.says(raw(head(Content_Length=1_000_000), a_jpeg_of(600_000)[:400_000], stall=True), "/stalls")
    keeping = asyncio.create_task(keep(apart, cdn.url("/stalls")))
    await eventually(lambda: bool(files(tmp_path / "data/tmp")))
    keeping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await keeping

    assert files(tmp_path) == []


ORPHAN = """
import asyncio, os, sys
from pathlib import Path
from runware_provider.artifacts import Artifacts
from runware_provider.durable.owner import Owner
from uuid import UUID

async def main(folder, url):
    owner = Owner.acquire(Path(folder) / "data")
    artifacts = await Artifacts.open(
        f"file://{folder}/objects", data_dir=owner.data_dir, image_hosts=["127.0.0.1"], max_image_bytes=10_000_000,
        apart=True, lock=owner.descriptor,
    )
    print("open", flush=True)
    await artifacts.keep(UUID(int=1), UUID(int=2), url, attempt=1)

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.fixture
async def orphaned(tmp_path: Path, cdn: Cdn) -> AsyncIterator[tuple["subprocess.Popen[bytes]", int]]:
    """A service that keeps an image, which does not come, in a process of its own, and that one's pid."""
    cdn.says(raw(head(Content_Length=1_000_000), stall=True), "/never")
    script = tmp_path / "orphan.py"
    script.write_text(ORPHAN)
    environment = {"PYTHONPATH": ":".join(sys.path)}
    service = subprocess.Popen(  # noqa: ASYNC220  it is killed
        [sys.executable, str(script), str(tmp_path), cdn.url("/never")], env=environment, stdout=subprocess.PIPE
    )
    await eventually(lambda: bool(cdn.asked))
    (child,) = children(service.pid)
    yield service, child
    service.kill()
    service.wait()
    assert service.stdout is not None
    service.stdout.close()


async def test_it_does_not_outlive_a_service_that_was_killed(orphaned: tuple["subprocess.Popen[bytes]", int]) -> None:
    """It is told by its socket, at once."""
    service, child = orphaned
    service.kill()

    await eventually(lambda: not alive(child))


async def test_the_folder_is_its_owners_until_both_are_gone(
    orphaned: tuple["subprocess.Popen[bytes]", int], tmp_path: Path
) -> None:
    """Or the next service would clear up while somebody still writes there."""
    service, child = orphaned
    os.kill(child, signal.SIGSTOP)  # it has not noticed yet
    service.kill()
    await asyncio.to_thread(service.wait)
    with (tmp_path / "data/lock").open() as lock, pytest.raises(BlockingIOError):
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)

    waiting = asyncio.create_task(asyncio.to_thread(Owner.acquire, tmp_path / "data"))
    await asyncio.sleep(0.2)
    assert not waiting.done()
    os.kill(child, signal.SIGCONT)
    (await waiting).release()
    assert not alive(child)


# What they say to each other


def test_a_line_without_an_end_is_refused() -> None:
    """Whatever went wrong on the other side, memory is bounded."""
    lines = Lines()
    assert lines.cut(b"one\ntw") == [b"one"]
    assert lines.cut(b"o\n") == [b"two"]
    with pytest.raises(ValueError, match="without an end"):
        lines.cut(b"x" * (MAX_LINE + 1))


def test_a_plan_arrives_as_it_was_sent() -> None:
    """Every setting of it."""
    plan = Plan(
        url="s3://bucket/prefix",
        data_dir=Path("/data"),
        image_hosts=["a.example", "127.0.0.1:8"],
        max_image_bytes=7,
        bucket_access=BucketAccess("http://127.0.0.1", "auto", "id", SecretStr("secret")),
        concurrency=3,
        fetch_timeout=timedelta(seconds=1.5),
        stall_timeout=timedelta(milliseconds=250),
        ipv6=True,
    )

    assert plan == read_plan(plan_line(plan).rstrip(b"\n"))
