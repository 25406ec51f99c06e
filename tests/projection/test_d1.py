"""What lies between us and D1: an API with a quota, a token, no transactions, and a network."""

import asyncio
import time
from pathlib import Path

import pytest

from runware_provider.errors import ConfigurationError, ProjectionUnavailable
from runware_provider.projection import (
    D1Access,
    Projection,
    ProjectionWriter,
    cloudflare,
    migrate,
    migration_sql,
    pending,
    write_migrations,
)
from runware_provider.projection.schema import REVISIONS
from runware_provider.types import ListArgs
from tests.d1.engine import TOKEN
from tests.d1.proxy import Fault, Proxy, said
from tests.projection.builders import NOON, a_state, a_time, an_image
from tests.projection.places import D1Place, Kind, NewPlace


@pytest.fixture
def kind() -> Kind:
    """Only this one here."""
    return "d1"


@pytest.fixture
def place(new_place: NewPlace) -> D1Place:
    place = new_place()
    assert isinstance(place, D1Place)
    return place


@pytest.fixture
def wire(projection: Projection, proxy: Proxy) -> Proxy:
    """The way to D1, once the read model is open."""
    proxy.forget()
    return proxy


def written(wire: Proxy) -> list[str]:
    """Which table each statement so far wrote to."""
    return [
        request["sql"].partition("INSERT INTO ")[2].partition(" ")[0] or request["sql"] for request in wire.requests
    ]


async def test_a_generation_comes_after_what_belongs_to_it(projection: Projection, wire: Proxy) -> None:
    """There is no transaction: whoever reads meanwhile finds none of it, or all."""
    await projection.write([a_state(outputs=[an_image()], metadata={"user": "ada"}) for _ in range(50)])

    assert written(wire) == ["artifacts", "generation_metadata", "generations"]


async def test_a_write_that_breaks_off_shows_nothing_and_is_made_whole_by_a_repeat(
    projection: Projection, place: D1Place, wire: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Images whose generation did not follow are found by nobody."""
    monkeypatch.setattr(cloudflare, "PATIENCE", 0.0)
    state = a_state(outputs=[an_image()], metadata={"user": "ada"})
    wire.faults = [Fault(), Fault(), Fault(503)]
    with pytest.raises(ProjectionUnavailable):
        await projection.write([state])
    assert len(place.rows("artifacts")) == 1
    assert (await projection.list(ListArgs())).items == []
    assert (await projection.list(ListArgs(metadata={"user": "ada"}))).items == []
    assert await projection.get(state.id) is None

    assert await projection.write([state]) == [None]
    (item,) = (await projection.list(ListArgs(metadata={"user": "ada"}))).items
    assert len(item.artifacts) == 1


async def test_everything_sent_keeps_to_the_documented_limits(
    projection: Projection, place: D1Place, wire: Proxy
) -> None:
    """Strings as parameters, at most 100; statements below 100 KB; parameters below 2 MB."""
    states = [a_state(input={"positivePrompt": "ä" * 8_000}, outputs=[an_image()] * 4) for _ in range(300)]
    await projection.write([*states, a_state(deleted_at=NOON)])
    labels = {f"label{number}": "x" for number in range(32)}
    many = ListArgs(
        status="failed", model="m", metadata=labels, created_after=NOON, created_before=a_time(9), limit=200
    )
    await projection.list(many)
    await projection.get(states[0].id)

    assert len(place.rows("generations")) == 301
    assert all(isinstance(parameter, str) for request in wire.requests for parameter in request["params"])
    assert max(len(request["params"]) for request in wire.requests) <= 100
    assert max(len(request["sql"].encode()) for request in wire.requests) < 100_000
    sizes = [len(parameter.encode()) for request in wire.requests for parameter in request["params"]]
    assert 500_000 < max(sizes) <= 1_000_000


@pytest.mark.parametrize(
    "fault",
    [
        Fault(500),
        Fault(503, b""),
        said(502, 10013, "upstream"),
        said(429, 971, "Please wait and consider throttling your request speed"),
        said(429, 971, "throttled", **{"Retry-After": "0"}),
        said(400, 7500, "D1 DB is overloaded. Requests queued for too long."),
        said(400, 7500, "D1_ERROR: Network connection lost."),
        said(500, 7500, "internal error"),
        Fault(lost=True),
        Fault(
            200,
            b'{"success": false, "errors": [{"code": 7500, "message": "D1 DB reset because its code was updated."}]}',
        ),
    ],
    ids=["500", "503", "502", "429", "429-0", "overloaded", "lost-there", "internal", "lost-here", "200"],
)
async def test_what_passes_is_tried_again(projection: Projection, place: D1Place, wire: Proxy, fault: Fault) -> None:
    """Also when it is not known whether the statement was run: a repeat changes nothing."""
    state = a_state(outputs=[an_image()], metadata={"user": "ada"})
    wire.faults = [fault, Fault(), fault, fault]

    assert await projection.write([state]) == [None]
    assert [len(rows) for rows in place.everything().values()] == [1, 1, 1]
    assert len(wire.requests) == 6
    wire.faults = [fault]
    assert len((await projection.list(ListArgs())).items) == 1


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("fault", [Fault(503), Fault(slow=0.3), Fault(lost=True)], ids=["503", "slow", "lost"])
async def test_an_outage_is_told_after_a_while_and_over_when_it_is_over(
    projection: Projection, wire: Proxy, monkeypatch: pytest.MonkeyPatch, fault: Fault
) -> None:
    """The caller has its own patience; the number of requests is bounded."""
    monkeypatch.setattr(cloudflare, "ANSWER_SECONDS", 0.1)
    wire.always = fault
    started = time.monotonic()
    with pytest.raises(ProjectionUnavailable, match="D1"):
        await projection.write([a_state()])
    with pytest.raises(ProjectionUnavailable, match="D1"):
        await projection.list(ListArgs())
    assert time.monotonic() - started < 1.0
    assert len(wire.requests) < 12

    wire.always = Fault()
    assert await projection.write([a_state()]) == [None]


async def test_cloudflares_word_on_when_to_come_back_is_kept(
    projection: Projection, wire: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who goes on knocking is shut out for longer: no request leaves before the time is over, for nobody."""
    wire.faults = [said(429, 971, "throttled", **{"Retry-After": "300"})]
    with pytest.raises(ProjectionUnavailable, match="throttled"):
        await projection.write([a_state()])
    for _ in range(3):
        with pytest.raises(ProjectionUnavailable, match=r"no requests for another (300|299) s"):
            await projection.list(ListArgs())
    assert len(wire.requests) == 1

    later = time.monotonic() + 301
    monkeypatch.setattr(time, "monotonic", lambda: later)
    assert (await projection.list(ListArgs())).items == []


async def test_a_short_wait_that_cloudflare_asks_for_is_waited(projection: Projection, wire: Proxy) -> None:
    """As long as asked, not shorter."""
    wire.faults = [said(429, 971, "throttled", **{"Retry-After": "1"})]
    started = time.monotonic()
    await projection.list(ListArgs())

    assert 1.0 <= time.monotonic() - started < 3.0


async def test_a_quota_that_runs_out_slows_writing_down_and_not_reading(projection: Projection, wire: Proxy) -> None:
    """Five requests in a second are left: three writes take their time, pages do not."""
    wire.always = Fault(headers={"Ratelimit": '"default";r=500;t=90, "burst";r=5;t=1'})
    await projection.list(ListArgs())
    started = time.monotonic()
    for _ in range(5):
        await projection.list(ListArgs())
    read = time.monotonic() - started
    await projection.write([a_state(outputs=[an_image()], metadata={"a": "b"})])

    assert time.monotonic() - started - read >= 0.6 > read


@pytest.mark.parametrize(
    "fault",
    [
        said(401, 10000, "Authentication error"),
        said(403, 9109, "Invalid access token"),
        said(400, 6003, "Invalid request headers"),
    ],
    ids=["401", "403", "400"],
)
async def test_a_token_that_is_withdrawn_is_named_once_and_its_return_noticed(
    projection: Projection, wire: Proxy, fault: Fault
) -> None:
    """Not tried state by state: no content would be taken."""
    wire.always = fault
    states = [a_state() for _ in range(40)]
    outcomes = await projection.write(states)
    assert len(wire.requests) == 1
    for outcome in outcomes:
        assert outcome is not None
        assert "RUNWARE_PROVIDER_D1_TOKEN" in outcome.message
        assert TOKEN not in outcome.message
    with pytest.raises(ConfigurationError, match="RUNWARE_PROVIDER_D1_TOKEN"):
        await projection.list(ListArgs())

    wire.always = Fault()
    assert await projection.write(states) == [None] * 40


@pytest.mark.parametrize(
    ("url", "access", "message"),
    [
        (None, D1Access(None), "D1 needs a token .*RUNWARE_PROVIDER_D1_TOKEN"),
        (None, D1Access(""), "D1 needs a token .*RUNWARE_PROVIDER_D1_TOKEN"),
        (None, D1Access("secret"), "does not accept the token .*RUNWARE_PROVIDER_D1_TOKEN"),
        ("d1://account/database", D1Access(TOKEN), "no such database.*d1://ACCOUNT/DATABASE"),
        ("d1://", D1Access(TOKEN), "write d1://ACCOUNT/DATABASE"),
        ("d1://account", D1Access(TOKEN), "write d1://ACCOUNT/DATABASE"),
        ("d1://account/../database", D1Access(TOKEN), "write d1://ACCOUNT/DATABASE"),
        ("d1://account/data?base", D1Access(TOKEN), "write d1://ACCOUNT/DATABASE"),
        ("d1://account/database\n", D1Access(TOKEN), "write d1://ACCOUNT/DATABASE"),
        (None, D1Access(TOKEN, "http://127.0.0.1:1"), "cannot be reached"),
    ],
    ids=lambda value: None if isinstance(value, D1Access) else value,
)
async def test_what_is_wrong_at_the_start_is_said_in_one_line(
    place: D1Place, url: str | None, access: D1Access, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the remedy, without the token."""
    monkeypatch.setattr(cloudflare, "PATIENCE", 0.0)
    if access.base_url.startswith("https"):
        access = D1Access(access.token, place.proxy.base_url)
    with pytest.raises(ConfigurationError, match=message) as refused:
        await Projection.open(url or place.url, migrate=True, d1=access)
    assert "\n" not in str(refused.value)
    assert "secret" not in str(refused.value) + repr(access)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (Fault(200, b"<html>Welcome</html>"), "not D1 that answers"),
        (Fault(200, b'{"success": true, "result": []}'), "D1 refused"),
        (Fault(200, b"[" * 100_000), "not D1 that answers"),
        (Fault(404, b"not here"), "no such database"),
        (Fault(307, b"", {"Location": "http://127.0.0.1:1/elsewhere"}), "not D1 that answers"),
        (Fault(413, b"too large"), "not D1 that answers"),
        (said(400, 7500, "x" * 20_000), "x" * 100),
    ],
    ids=["html", "empty", "deep", "404", "307", "413", "long"],
)
async def test_answers_that_are_none_are_not_taken_for_rows(
    projection: Projection, wire: Proxy, fault: Fault, message: str
) -> None:
    """Portals, proxies, redirects: said to the operator, and bounded. The token follows no redirect."""
    wire.always = fault
    with pytest.raises(ConfigurationError, match=message) as refused:
        await projection.list(ListArgs())
    assert len(str(refused.value)) < 3_000
    (outcome,) = await projection.write([a_state()])
    assert outcome is not None
    assert message in outcome.message


async def test_an_answer_without_end_is_not_read(
    projection: Projection, wire: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing that comes from outside fills the memory."""
    monkeypatch.setattr(cloudflare, "ANSWER_BYTES", 10_000)
    wire.always = Fault(200, b" " * 1_000_000)
    with pytest.raises(ConfigurationError, match="more than 10000 bytes"):
        await projection.list(ListArgs())


async def test_a_page_may_be_large(projection: Projection) -> None:
    """200 summaries of the longest prompts are some megabytes, decoded beside the loop."""
    await projection.write([a_state(input={"positivePrompt": "ä" * 8_192}) for _ in range(200)])

    assert len((await projection.list(ListArgs(limit=200))).items) == 200


async def test_an_outage_is_waited_out_by_the_writer(projection: Projection, wire: Proxy) -> None:
    """A minute of 503 costs nobody a row."""
    wire.faults = [Fault(503)] * 4
    writer = ProjectionWriter(projection, batch=64)

    assert await asyncio.gather(*(writer.project(a_state()) for _ in range(200))) == [None] * 200


async def test_a_migration_that_was_cut_off_is_finished(new_place: NewPlace) -> None:
    """Should D1 not take a request back as a whole: what the first try left does not stop the second."""
    statements = migration_sql(REVISIONS[0]).split(";\n")
    for count in (1, 2, 4, 7):
        place = new_place(migrated=False)
        place.run(*statements[:count])
        assert await pending(place.url, d1=place.d1) == REVISIONS
        assert await migrate(place.url, d1=place.d1) == REVISIONS

        projection = await place.open()
        assert await projection.write([a_state(outputs=[an_image()], metadata={"a": "b"})]) == [None]
        await projection.aclose()


@pytest.mark.parametrize("fault", [Fault(lost=True), Fault(503)], ids=["lost", "503"])
async def test_a_migration_whose_answer_is_lost_is_done_all_the_same(new_place: NewPlace, fault: Fault) -> None:
    """It is sent again, and finds its own work."""
    place = new_place(migrated=False)
    assert isinstance(place, D1Place)
    place.proxy.faults = [Fault(), Fault(), Fault(), Fault(), Fault(lost=True, only="CREATE TABLE")]
    await migrate(place.url, d1=place.d1)

    assert await pending(place.url, d1=place.d1) == ()
    await (await place.open()).aclose()


async def test_the_migrations_as_files_are_what_wrangler_applies(new_place: NewPlace, tmp_path: Path) -> None:
    """One numbered file a revision, each run as a whole with wrangler's own bookkeeping behind it."""
    place = new_place(migrated=False)
    folder = tmp_path / "new" / "migrations"
    files = write_migrations(folder)
    assert [file.name for file in files] == ["0001_initial.sql"]
    assert sorted(folder.iterdir()) == list(files)
    assert write_migrations(folder) == files
    place.run("CREATE TABLE d1_migrations (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT UNIQUE)")
    for file in files:
        place.run(f"{file.read_text()}\nINSERT INTO d1_migrations (name) VALUES ('{file.name}');")

    assert await migrate(place.url, d1=place.d1) == ()
    projection = await place.open()
    assert await projection.write([a_state()]) == [None]
    await projection.aclose()
