"""The store: what lies in it, when it is safe there, and what is left of a failure."""

import asyncio
import errno
import os
import resource
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID

import pytest

from runware_provider.artifacts import Artifacts, NotKept, StoreUnavailable
from runware_provider.artifacts.spool import Spool
from runware_provider.errors import ConfigurationError, OutputNotFound, StorageFailed, worth_trying
from tests.artifacts.cdn import Cdn, body
from tests.artifacts.conftest import GENERATION, OUTPUT, Opener, content, files, keep, refusal
from tests.artifacts.pictures import a_jpeg_of, a_picture

MIB = 1 << 20
SIZES = pytest.mark.parametrize("size", [20_000, 2 * MIB], ids=["small", "spooled"])


@pytest.mark.parametrize("url", ["memory://", "file://{}/a/b c/objects", "file://localhost{}/objects"])
async def test_every_store_keeps_and_gives_back(open_artifacts: Opener, cdn: Cdn, tmp_path: Path, url: str) -> None:
    """The folder is made; a URL may quote its name."""
    artifacts = await open_artifacts(url.format(tmp_path).replace(" ", "%20"))
    for size in (20_000, 2 * MIB, 3 * MIB):
        stored = await keep(artifacts, cdn.says(body(a_jpeg_of(size))))
        assert a_jpeg_of(size) == await content(artifacts, stored.key)
    assert files(tmp_path / "data") == []


async def test_images_of_every_size_come_back_as_they_were(store: Artifacts, cdn: Cdn, tmp_path: Path) -> None:
    """In memory, spooled, larger than what S3 takes in one piece; nothing of them stays behind."""
    for size in (20_000, 2 * MIB, 5 * MIB, 5 * MIB + 1, 12 * MIB):
        stored = await keep(store, cdn.says(body(a_jpeg_of(size))))
        assert a_jpeg_of(size) == await content(store, stored.key)
    assert files(tmp_path / "data") == []


@SIZES
async def test_the_same_bytes_meet_and_others_do_not_overwrite(store: Artifacts, cdn: Cdn, size: int) -> None:
    first = await keep(store, cdn.says(body(a_jpeg_of(size))))
    again = await keep(store, cdn.url("/image"))
    other = await keep(store, cdn.says(body(a_jpeg_of(size + 1))))

    assert first == again
    assert a_jpeg_of(size) == await content(store, first.key)
    assert a_jpeg_of(size + 1) == await content(store, other.key)
    assert await store.purge(GENERATION) == 2


@SIZES
async def test_many_at_once_all_arrive(store: Artifacts, cdn: Cdn, size: int) -> None:
    url = cdn.says(body(a_jpeg_of(size)))
    generations = [UUID(int=number) for number in range(5)]
    outputs = [UUID(int=number) for number in range(8)]
    await asyncio.gather(
        *(store.keep(generation, output, url, attempt=1) for generation in generations for output in outputs)
    )

    assert [await store.purge(generation) for generation in generations] == [8] * 5


async def test_a_sweep_spares_what_is_kept_and_what_is_not_of_the_output(store: Artifacts, cdn: Cdn) -> None:
    """It removes what somebody put who died before he could say so."""
    lost = await keep(store, cdn.says(body(a_jpeg_of(40_000))))
    kept = await keep(store, cdn.says(body(a_jpeg_of(50_000))))
    beside = await store.keep(GENERATION, UUID(int=99), cdn.says(body(a_jpeg_of(60_000))), attempt=1)

    assert await store.sweep(GENERATION, kept.output_id, kept.key) == 1
    assert await store.sweep(GENERATION, kept.output_id, kept.key) == 0
    with pytest.raises(OutputNotFound):
        await store.read(lost.key)
    assert [await content(store, each.key) for each in (kept, beside)] == [a_jpeg_of(50_000), a_jpeg_of(60_000)]


async def test_what_lies_under_a_key_is_the_image_and_nothing_else(
    artifacts: Artifacts, cdn: Cdn, tmp_path: Path
) -> None:
    """No file beside it that a backup or another program would take for one."""
    stored = await keep(artifacts, cdn.says(body(a_jpeg_of(2 * MIB))))

    assert files(tmp_path / "objects") == [stored.key]


@contextmanager
def recorded(monkeypatch: pytest.MonkeyPatch, root: Path) -> Iterator[list[str]]:
    """The calls that make things durable, in order, with their paths below `root`."""
    calls: list[str] = []

    def short(path: object) -> str:
        return str(path).removeprefix(f"{root}/")

    def watch(name: str, shown: Callable[..., str]) -> None:
        real = getattr(os, name)

        def call(*args: object, **more: object) -> object:
            calls.append(f"{name} {shown(*args)}")
            return real(*args, **more)

        monkeypatch.setattr(os, name, call)

    watch("fsync", lambda descriptor: short(Path(f"/proc/self/fd/{descriptor}").readlink()))
    watch("replace", lambda source, target: f"{short(source)} {short(target)}")
    watch("mkdir", lambda path, *_: short(path))
    with monkeypatch.context():
        yield calls


@SIZES
async def test_an_image_is_on_disk_before_it_is_called_stored(
    artifacts: Artifacts, cdn: Cdn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    """Folder made, file, the folder's parent, rename, folder: a loss of power at any moment leaves all or nothing."""
    url = cdn.says(body(a_jpeg_of(size)))
    with recorded(monkeypatch, tmp_path) as calls:
        stored = await keep(artifacts, url)
        first = calls.copy()
        calls.clear()
        other = await artifacts.keep(GENERATION, UUID(int=9), url, attempt=1)

    folder = f"objects/generations/{GENERATION}"
    temporary = first[1].removeprefix("fsync ")
    assert temporary.startswith("data/tmp/")
    assert first == [
        f"mkdir {folder}",
        f"fsync {temporary}",
        "fsync objects/generations",
        f"replace {temporary} objects/{stored.key}",
        f"fsync {folder}",
    ]
    temporary = calls[0].removeprefix("fsync ")
    assert calls == [f"fsync {temporary}", f"replace {temporary} objects/{other.key}", f"fsync {folder}"]


async def test_a_folder_found_is_synced_once_more(
    open_artifacts: Opener, cdn: Cdn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever made it may have been killed before it was on disk."""
    (tmp_path / "objects/generations" / str(GENERATION)).mkdir(parents=True)
    artifacts = await open_artifacts()
    with recorded(monkeypatch, tmp_path) as calls:
        await keep(artifacts, cdn.says(body(a_picture())))

    assert "fsync objects/generations" in calls


async def test_the_folders_of_a_new_store_are_synced_up_to_the_top(
    open_artifacts: Opener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with recorded(monkeypatch, tmp_path.parent) as calls:
        await open_artifacts(f"file://{tmp_path}/a/b")

    for folder in ("a/b/generations", "a/b", "a", ""):
        assert f"fsync {tmp_path.name}/{folder}".rstrip("/") in calls


async def test_nobody_else_may_read_what_is_kept(artifacts: Artifacts, cdn: Cdn, tmp_path: Path) -> None:
    stored = await keep(artifacts, cdn.says(body(a_picture())))

    assert stat.S_IMODE((tmp_path / "objects" / stored.key).stat().st_mode) == 0o600


async def storage_failure(artifacts: Artifacts, url: str) -> StorageFailed:
    """The error of a store that did not take the image."""
    error = (await refusal(artifacts, url)).error
    assert isinstance(error, StorageFailed)
    assert worth_trying(error) == "long"
    return error


@SIZES
async def test_a_disk_that_takes_no_more_leaves_nothing(
    artifacts: Artifacts, cdn: Cdn, tmp_path: Path, size: int
) -> None:
    """A real refusal of the kernel: files of this process may have 10,000 bytes."""
    url = cdn.says(body(a_jpeg_of(size)))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    try:
        error = await storage_failure(artifacts, url)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    assert "File too large" in error.message
    assert error.key.startswith(f"generations/{GENERATION}/{OUTPUT}")
    assert files(tmp_path) == []
    assert size == (await keep(artifacts, url)).size_bytes


@SIZES
@pytest.mark.parametrize("call", ["fsync", "replace", "write", "open"])
async def test_a_call_that_fails_leaves_nothing(
    artifacts: Artifacts, cdn: Cdn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int, call: str
) -> None:
    """At its first, second, ... use, until the image is kept."""
    url = cdn.says(body(a_jpeg_of(size)))
    real = getattr(os, call)
    for failing in range(1, 20):
        uses = iter(range(1, 100))

        def fail(*args: object, uses: Iterator[int] = uses, failing: int = failing, **more: object) -> object:
            if next(uses) == failing:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(tmp_path))
            return real(*args, **more)

        with monkeypatch.context() as patched:
            patched.setattr(os, call, fail)
            try:
                stored = await keep(artifacts, url)
            except NotKept as refused:
                assert isinstance(refused.error, StorageFailed)  # noqa: PT017
                stored = None
        if stored is not None:
            assert files(tmp_path) == [f"objects/{stored.key}"]
            assert failing > 1
            return
        assert files(tmp_path) == []
    pytest.fail("it was never kept")


async def test_a_failure_does_not_take_an_older_image_along(
    artifacts: Artifacts, cdn: Cdn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A repeat whose last sync fails is not kept; what was kept before is."""
    stored = await keep(artifacts, cdn.says(body(a_picture())))
    real = os.fsync

    def fail(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EIO, "Input/output error")
        real(descriptor)

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", fail)
        error = await storage_failure(artifacts, cdn.url("/image"))

    assert (error.key, error.message) == (stored.key, "Input/output error")
    assert a_picture() == await content(artifacts, stored.key)


async def test_a_bucket_that_does_not_answer_is_a_storage_failure(
    open_artifacts: Opener, cdn: Cdn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And its message holds nothing of the settings."""
    for name, value in {
        "ENDPOINT_URL": "http://127.0.0.1:1",
        "ALLOW_HTTP": "true",
        "ACCESS_KEY_ID": "planted-id",
        "SECRET_ACCESS_KEY": "planted-secret",
        "REGION": "auto",
    }.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    artifacts = await open_artifacts("s3://bucket/prefix")
    error = await storage_failure(artifacts, cdn.says(body(a_picture())))

    assert "planted" not in error.model_dump_json()
    assert "\n" not in error.message
    with pytest.raises(StoreUnavailable):
        await artifacts.purge(GENERATION)


async def test_a_cancelled_put_is_waited_for(
    artifacts: Artifacts, cdn: Cdn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thread cannot be stopped; so nothing is written behind the back of one who was told that all has ended."""
    begun, go_on = threading.Event(), threading.Event()
    real = os.fsync

    def wait(descriptor: int) -> None:
        begun.set()
        assert go_on.wait(10)
        real(descriptor)

    monkeypatch.setattr(os, "fsync", wait)
    keeping = asyncio.ensure_future(keep(artifacts, cdn.says(body(a_picture()))))
    await asyncio.to_thread(begun.wait)
    for _ in range(3):
        keeping.cancel()
        await asyncio.sleep(0.02)
        assert not keeping.done()
    go_on.set()

    with pytest.raises(asyncio.CancelledError):
        await keeping
    assert files(tmp_path / "data") == []


async def test_a_cancelled_upload_stops_at_its_next_piece(
    open_artifacts: Opener, cdn: Cdn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By an exception from its iterator, which makes obstore abort it; nothing of it is stored."""
    begun, go_on = threading.Event(), threading.Event()
    real = Spool.read_at

    def wait(spool: Spool, offset: int, length: int) -> bytes:
        if length == MIB:
            begun.set()
            assert go_on.wait(10)
        return real(spool, offset, length)

    monkeypatch.setattr(Spool, "read_at", wait)
    artifacts = await open_artifacts("memory://")
    keeping = asyncio.ensure_future(keep(artifacts, cdn.says(body(a_jpeg_of(7 * MIB)))))
    assert await asyncio.to_thread(begun.wait, 10)
    keeping.cancel()
    await asyncio.sleep(0.02)
    go_on.set()

    with pytest.raises(asyncio.CancelledError):
        await keeping
    assert await artifacts.purge(GENERATION) == 0


MORTAL = """
import asyncio, os, signal, sys
from pathlib import Path
from uuid import UUID
from runware_provider.artifacts import Artifacts

call, moment, root, url, generation, output = sys.argv[1:]
real, uses = getattr(os, call), iter(range(1, 100))

def die(*args, **more):
    if next(uses) == int(moment):
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*args, **more)

async def main():
    artifacts = await Artifacts.open(
        f"file://{root}/objects", data_dir=Path(root) / "data", image_hosts=["127.0.0.1"], max_image_bytes=1 << 30
    )
    setattr(os, call, die)
    await artifacts.keep(UUID(generation), UUID(output), url, attempt=1)

asyncio.run(main())
"""


@pytest.mark.parametrize(
    ("size", "call", "moment"), [(20_000, "fsync", 1), (20_000, "replace", 1), (3 * MIB, "write", 2)]
)
async def test_a_killed_process_leaves_nothing_under_a_final_name(
    open_artifacts: Opener, cdn: Cdn, tmp_path: Path, size: int, call: str, moment: int
) -> None:
    """kill -9 before the sync, before the rename, amid the writing. The next start removes what it left elsewhere."""
    url = cdn.says(body(a_jpeg_of(size)))
    arguments = [call, str(moment), str(tmp_path), url, str(GENERATION), str(OUTPUT)]
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", MORTAL, *arguments)
    assert await process.wait() == -signal.SIGKILL
    assert files(tmp_path / "objects") == []
    assert len(files(tmp_path / "data/tmp")) == 1

    artifacts = await open_artifacts()

    assert files(tmp_path / "data") == []
    assert size == (await keep(artifacts, url)).size_bytes


async def test_a_store_on_another_file_system_spools_beside_itself(
    open_artifacts: Opener, cdn: Cdn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only a rename within one file system is atomic. What others may still write there is left alone."""
    real = os.rename

    def refuse(source: str, target: str) -> None:
        if str(source).startswith(str(tmp_path / "data")):
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        real(source, target)

    hidden = tmp_path / "objects/.tmp"
    hidden.mkdir(parents=True)
    for name, hours in (("fresh", 0), ("stale", 2)):
        (hidden / name).touch()
        os.utime(hidden / name, (hidden.stat().st_mtime - hours * 3_600,) * 2)
    monkeypatch.setattr(os, "rename", refuse)
    artifacts = await open_artifacts()
    with recorded(monkeypatch, tmp_path) as calls:
        stored = await keep(artifacts, cdn.says(body(a_jpeg_of(2 * MIB))))

    assert calls[1].startswith("fsync objects/.tmp/")
    assert files(tmp_path) == sorted(["objects/.tmp/fresh", f"objects/{stored.key}"])


@pytest.mark.parametrize(
    ("url", "remedy"),
    [
        ("", "file:///absolute/path"),
        ("objects", "file:///absolute/path"),
        ("http://example.com", "file:///absolute/path"),
        ("memory", "file:///absolute/path"),
        ("memory:", "file:///absolute/path"),
        ("file://objects", "three slashes"),
        ("file:objects", "file:///absolute/path"),
        ("file:///a?b", "three slashes"),
        ("file:///a%00b", "three slashes"),
        ("file:///proc/nothing", "this user can write to"),
        ("file:///dev/null", "this user can write to"),
        ("az://container/prefix", "Account"),
    ],
)
async def test_a_store_that_cannot_be_opened_stops_the_start(open_artifacts: Opener, url: str, remedy: str) -> None:
    with pytest.raises(ConfigurationError, match=remedy):
        await open_artifacts(url)


@pytest.mark.parametrize("url", ["memory://", "file://{}/objects"])
async def test_a_data_folder_that_cannot_be_written_stops_the_start(
    open_artifacts: Opener, tmp_path: Path, url: str
) -> None:
    (tmp_path / "file").touch()
    for data_dir in (tmp_path / "file", Path("/proc/nothing")):
        with pytest.raises(ConfigurationError, match="DATA_DIR"):
            await open_artifacts(url.format(tmp_path), data_dir=data_dir)


@pytest.mark.parametrize("wrong", [{"concurrency": 0}, {"max_image_bytes": 0}])
async def test_a_limit_of_nothing_stops_the_start(open_artifacts: Opener, wrong: dict[str, int]) -> None:
    with pytest.raises(ConfigurationError):
        await open_artifacts(**wrong)


def test_memory_stays_flat() -> None:
    """Images of 8 MB, 16 at once, in a process of its own; spooled, not gathered."""
    command = [sys.executable, "-m", "benchmarks.keep", "--images", "32", "--bytes", "8000000"]
    said = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout

    assert int(said.partition("RSS at most ")[2].split()[0].replace(",", "")) < 150
