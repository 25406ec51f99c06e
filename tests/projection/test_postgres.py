"""What only PostgreSQL can do to us: crashes, cut connections, locks, settings of the team's own."""

import asyncio
import subprocess
import sys
import time

import pytest

from runware_provider.errors import ConfigurationError, ProjectionUnavailable
from runware_provider.projection import Projection, ProjectionWriter, migrate, postgres
from runware_provider.types import ListArgs
from tests.postgres import PostgresServer
from tests.projection.builders import a_state, an_image
from tests.projection.places import Kind, NewPlace, PostgresPlace


@pytest.fixture
def kind() -> Kind:
    """Only this one here."""
    return "postgresql"


@pytest.fixture
def place(new_place: NewPlace) -> PostgresPlace:
    place = new_place()
    assert isinstance(place, PostgresPlace)
    return place


async def settled(projection: Projection) -> None:
    """Call until the pool has noticed what happened to its connections: at most once for each of them."""
    for _ in range(postgres.CONNECTIONS + 1):
        try:
            await projection.list(ListArgs())
        except ProjectionUnavailable:
            continue
        return


async def test_a_crash_of_the_server_is_waited_out(projection: Projection, place: PostgresPlace) -> None:
    """While it is down a call says so; when it is back the same object works, and what was written is there."""
    before, after = a_state(outputs=[an_image()]), a_state()
    await projection.write([before])
    await asyncio.to_thread(place.server.stop, "immediate")
    for _ in range(2):
        with pytest.raises(ProjectionUnavailable, match="PostgreSQL"):
            await projection.write([after])
        with pytest.raises(ProjectionUnavailable, match="cannot be reached"):
            await projection.list(ListArgs())
    await asyncio.to_thread(place.server.start)

    assert await projection.write([after]) == [None]
    assert {before.id, after.id} == {item.id for item in (await projection.list(ListArgs())).items}


async def test_a_restart_under_load_loses_nothing(projection: Projection, place: PostgresPlace) -> None:
    """What was under way is written after it: every caller hears of success, and every row is there."""
    writer = ProjectionWriter(projection, batch=8)
    writing = asyncio.gather(*(writer.project(a_state(outputs=[an_image()])) for _ in range(400)))
    await asyncio.sleep(0.02)
    await asyncio.to_thread(place.server.stop, "immediate")
    await asyncio.to_thread(place.server.start)

    assert await writing == [None] * 400
    assert [len(rows) for rows in place.everything().values()] == [400, 400, 0]


async def test_cut_connections_are_made_anew(projection: Projection, place: PostgresPlace) -> None:
    """A failover, a firewall, an administrator: at most the calls that were under way hear of it."""
    state = a_state()
    await asyncio.gather(projection.write([state]), *(projection.list(ListArgs()) for _ in range(8)))
    await asyncio.to_thread(place.server.disconnect, place.database)
    await settled(projection)

    assert await projection.write([state]) == [None]
    assert len((await projection.list(ListArgs())).items) == 1


async def test_a_connection_that_is_cut_in_the_middle_keeps_nothing(
    projection: Projection, place: PostgresPlace
) -> None:
    """All or nothing, and the caller may simply repeat it."""
    place.run(
        "CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(5); RETURN NEW; END $$",
        "CREATE TRIGGER wait BEFORE INSERT ON generation_metadata FOR EACH ROW EXECUTE FUNCTION wait()",
    )
    state = a_state(outputs=[an_image()], metadata={"user": "ada"})
    writing = asyncio.create_task(projection.write([state]))
    await until_somebody_sleeps(place)
    await asyncio.to_thread(place.server.disconnect, place.database)
    with pytest.raises(ProjectionUnavailable, match="connection"):
        await writing
    assert place.rows("generations") == []

    place.run("DROP TRIGGER wait ON generation_metadata")
    assert await projection.write([state]) == [None]


async def until_somebody_sleeps(place: PostgresPlace) -> None:
    asked = f"SELECT 1 FROM pg_stat_activity WHERE datname = '{place.database}' AND wait_event = 'PgSleep'"  # noqa: S608
    while not await asyncio.to_thread(place.ask, asked):  # noqa: ASYNC110 (it is the server that we wait for)
        await asyncio.sleep(0.01)


@pytest.mark.parametrize(("name", "seconds"), [("statement_timeout", "50ms"), ("", 0.05)])
async def test_a_statement_that_takes_too_long_is_given_up(
    place: PostgresPlace, monkeypatch: pytest.MonkeyPatch, name: str, seconds: object
) -> None:
    """By the server, and when no answer comes from there, by us; the next call works."""
    if name:
        monkeypatch.setitem(postgres.SESSION, name, str(seconds))
    else:
        monkeypatch.setattr(postgres, "ANSWER_SECONDS", seconds)
    place.run(
        "CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(3); RETURN NEW; END $$",
        "CREATE TRIGGER wait BEFORE INSERT ON generations FOR EACH ROW EXECUTE FUNCTION wait()",
    )
    projection = await place.open()
    started = time.monotonic()
    with pytest.raises(ProjectionUnavailable, match=r"statement timeout|did not answer in time"):
        await projection.write([a_state()])
    assert time.monotonic() - started < 2

    place.run("DROP TRIGGER wait ON generations")
    assert await projection.write([a_state()]) == [None]
    await projection.aclose()


async def test_lists_do_not_queue_behind_writes(projection: Projection, place: PostgresPlace) -> None:
    """However many writes hang on a lock, connections are left for reading."""
    with place.writes_blocked():
        writes = [asyncio.create_task(projection.write([a_state()])) for _ in range(20)]
        await asyncio.sleep(0.05)
        pages = await asyncio.wait_for(asyncio.gather(*(projection.list(ListArgs()) for _ in range(20))), 1)
    assert [page.items for page in pages] == [[]] * 20
    assert await asyncio.gather(*writes) == [[None]] * 20


async def test_callers_that_go_away_leave_the_connections_behind(projection: Projection, place: PostgresPlace) -> None:
    """A client that hangs up cancels its list in the middle: as often as it likes."""
    with place.writes_blocked():
        for _ in range(3 * postgres.CONNECTIONS):
            write = asyncio.create_task(projection.write([a_state()]))
            read = asyncio.create_task(projection.list(ListArgs()))
            await asyncio.sleep(0.002)
            write.cancel()
            read.cancel()
            await asyncio.wait([write, read])

    assert await asyncio.wait_for(projection.write([a_state()]), 5) == [None]
    assert len((await projection.list(ListArgs())).items) == 1


async def test_a_standby_or_read_only_database_is_refused_at_the_start(place: PostgresPlace) -> None:
    """Found by `serve` and `doctor`, not by the first paid image."""
    place.server.run(f"ALTER DATABASE {place.database} SET default_transaction_read_only = on")
    with pytest.raises(ConfigurationError, match="read-only"):
        await place.open()


async def test_a_database_that_turns_read_only_refuses_and_recovers(
    projection: Projection, place: PostgresPlace
) -> None:
    """After a failover the old primary is read-only: that is said, and the connection to it is not used again."""
    state = a_state()
    place.server.run(f"ALTER DATABASE {place.database} SET default_transaction_read_only = on")
    await asyncio.to_thread(place.server.disconnect, place.database)
    await settled(projection)
    (outcome,) = await projection.write([state])
    assert outcome is not None
    assert outcome.message == "cannot execute INSERT in a read-only transaction"

    place.server.run(f"ALTER DATABASE {place.database} RESET default_transaction_read_only")
    assert await projection.write([state]) == [None]


@pytest.mark.parametrize(
    ("code", "tries"), [("53100", 1), ("28000", 1), ("23514", 15), ("40P01", 1), ("55P03", 1), ("57014", 1)]
)
async def test_what_no_content_could_change_is_not_tried_state_by_state(
    projection: Projection, place: PostgresPlace, code: str, tries: int
) -> None:
    """A full disk, lost rights and locks concern the whole batch; a constraint concerns one state."""
    place.run("CREATE SEQUENCE tries")
    place.run(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM nextval('tries'); "
        f"RAISE EXCEPTION 'the database says no' USING ERRCODE = '{code}', DETAIL = 'a prompt'; END $$",
        "CREATE TRIGGER refuse BEFORE INSERT ON generations EXECUTE FUNCTION refuse()",
    )
    states = [a_state() for _ in range(8)]

    if code[:2] in {"40", "55", "57"}:
        with pytest.raises(ProjectionUnavailable, match=r"^the database says no$"):
            await projection.write(states)
    else:
        outcomes = await projection.write(states)
        assert [outcome.message for outcome in outcomes if outcome] == ["the database says no"] * 8
    assert place.ask("SELECT last_value FROM tries") == [{"last_value": tries}]


async def test_missing_rights_are_said_and_mended_without_a_restart(place: PostgresPlace) -> None:
    """The schema is the owner's to make; the service needs no more than to read and write its rows."""
    role = f"role_{place.database}"
    place.run(f"CREATE ROLE {role} LOGIN", f"GRANT SELECT ON runware_provider_schema TO {role}")
    projection = await Projection.open(place.url.replace("postgres@", f"{role}@"), migrate=False)
    (outcome,) = await projection.write([a_state()])
    assert outcome is not None
    assert outcome.message == "permission denied for table generations"

    rights = f"SELECT, INSERT, UPDATE, DELETE ON generations, artifacts, generation_metadata TO {role}"
    place.run(f"GRANT {rights}")
    deleted = a_state(deleted_at=a_state().created_at)
    assert await projection.write([a_state(outputs=[an_image()], metadata={"a": "b"}), deleted]) == [None, None]
    await projection.aclose()
    place.run(f"REVOKE {rights.replace(' TO ', ' FROM ')}", f"DROP OWNED BY {role}", f"DROP ROLE {role}")


async def test_the_teams_own_defaults_do_not_matter(place: PostgresPlace) -> None:
    """Serializable by default, a schema of their own, text in another order: the same rows and pages."""
    place.run("CREATE SCHEMA team")
    place.server.run(f"ALTER DATABASE {place.database} SET default_transaction_isolation = 'serializable'")
    url = f"{place.url}&search_path=team"
    assert await migrate(url) == ("0001",)
    nodes = [await Projection.open(url, migrate=False) for _ in range(2)]
    states = [a_state(version=version, outputs=[an_image()]) for version in (1, 2, 3)]
    outcomes = await asyncio.gather(*(node.write(states) for node in nodes * 3))

    assert outcomes == [[None] * 3] * 6
    assert len(place.ask("SELECT 1 FROM team.generations")) == 3
    assert place.rows("generations") == []
    for node in nodes:
        await node.aclose()


async def test_the_state_may_lie_in_the_same_database(new_place: NewPlace) -> None:
    """Its schema has a table of the same name, and comes first when the user is called like the schema."""
    place = new_place(migrated=False)
    assert isinstance(place, PostgresPlace)
    place.run("CREATE ROLE runware_provider LOGIN", "CREATE SCHEMA runware_provider AUTHORIZATION runware_provider")
    place.run("CREATE TABLE runware_provider.generations (theirs text)", "GRANT ALL ON SCHEMA public TO PUBLIC")
    place.run("GRANT ALL ON runware_provider.generations TO runware_provider")
    url = place.url.replace("postgres@", "runware_provider@")
    await migrate(url)
    projection = await Projection.open(url, migrate=False)
    await projection.write([a_state()])
    await projection.aclose()

    assert len(place.ask("SELECT id FROM public.generations")) == 1
    assert place.ask("SELECT * FROM runware_provider.generations") == []
    place.run("DROP OWNED BY runware_provider CASCADE", "DROP ROLE runware_provider")


async def test_a_database_that_cannot_hold_every_character_is_refused(postgres: PostgresServer) -> None:
    """Else the first prompt in another script would be the one that fails."""
    postgres.run("CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    with pytest.raises(ConfigurationError, match=r"encoding is LATIN1.*ENCODING 'UTF8'"):
        await Projection.open(postgres.url("latin"), migrate=True)
    postgres.drop_database("latin")


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("postgresql://ada:secret@127.0.0.1:1/db", "cannot be reached"),
        ("postgresql://ada:secret@127.0.0.1:1x/db", "no address of PostgreSQL"),
        ("postgresql://ada:sec/ret@127.0.0.1/db", "no address of PostgreSQL"),
        ("postgresql://ada:secret@127.0.0.1:1/db?sslmode=secret", "sslmode"),
        ("postgres://ada:secret@no-such-host.invalid/db", "cannot be reached"),
    ],
)
async def test_an_address_that_leads_nowhere_is_refused_in_one_line_without_its_password(
    url: str, message: str
) -> None:
    """The message goes to terminals and logs."""
    with pytest.raises(ConfigurationError, match=message) as refused:
        await Projection.open(url, migrate=False)
    assert "\n" not in str(refused.value)
    assert "secret" not in str(refused.value)


async def test_a_database_that_is_not_there_is_named(postgres: PostgresServer) -> None:
    """Making databases is the operator's."""
    with pytest.raises(ConfigurationError, match='database "nowhere" does not exist'):
        await Projection.open(postgres.url("nowhere"), migrate=True)


def test_without_its_driver_the_remedy_is_said() -> None:
    """asyncpg is an extra: who keeps the default does not install it."""
    program = """
import asyncio, sys
sys.modules["asyncpg"] = None
from runware_provider.projection import Projection
try:
    asyncio.run(Projection.open("postgresql://host/db", migrate=False))
except Exception as error:
    print(type(error).__name__, error)
"""
    said = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout
    assert said == (
        "ConfigurationError PROJECTION_URL: a read model on PostgreSQL needs "
        "`pip install 'runware-provider[postgres]'`\n"
    )
