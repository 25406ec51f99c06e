"""Every statement that the PostgreSQL runtime runs on its own tables. Each works on the connection it is given."""

import json
from collections.abc import Iterable, Sequence
from typing import Final
from uuid import UUID

from runware_provider.durable import TASK_KINDS, Flag, Parked, Stats, UnclaimedDelivery
from runware_provider.durable.postgres_batch import Row, Unclaimed, Writes
from runware_provider.durable.postgres_pool import Connection
from runware_provider.durable.postgres_schema import CHANGES_CHANNEL, GONE, jobs
from runware_provider.durable.records import UNCLAIMED_BYTES, UNCLAIMED_LIMIT, digest_of, from_ms, not_found

CREATION_LOCK: Final = 0x63726561746564
"""Held by a transaction that counts against a limit and adds to it."""

NOTICE_IDS: Final = 150
"""Changes that one notification holds: its payload may have 7,999 bytes."""

_FLAGGED = {
    None: "SELECT id FROM generations WHERE id > $1 ORDER BY id LIMIT $2",
    "running": "SELECT id FROM generations WHERE id > $1 AND flags & 1 <> 0 ORDER BY id LIMIT $2",
    "projection_failed": "SELECT id FROM generations WHERE id > $1 AND flags & 2 <> 0 ORDER BY id LIMIT $2",
}


async def lock(connection: Connection, ids: Iterable[UUID]) -> list[Row]:
    """Read and lock these generations, in order of id."""
    found = await connection.fetch(
        "SELECT id, flags, alarm_at, register FROM generations WHERE id = ANY($1) ORDER BY id FOR UPDATE", sorted(ids)
    )
    return [Row(*row) for row in found]


async def lock_due(connection: Connection, now_ms: int, limit: int) -> list[Row]:
    """Read and lock generations whose alarm is due and that nobody else works on."""
    found = await connection.fetch(
        "SELECT id, flags, alarm_at, register FROM generations WHERE alarm_at <= $1 "
        "ORDER BY alarm_at, id LIMIT $2 FOR UPDATE SKIP LOCKED",
        now_ms,
        limit,
    )
    return [Row(*row) for row in found]


async def next_due(connection: Connection) -> int | None:
    """When the next alarm is due, in milliseconds; None when there is none."""
    ms: int | None = await connection.fetchval(
        "SELECT alarm_at FROM generations WHERE alarm_at IS NOT NULL ORDER BY alarm_at LIMIT 1"
    )
    return ms


async def write(connection: Connection, writes: Writes, *, part: int) -> None:
    """Everything of a batch but its creations' keys. `part` keeps transactions from waiting for one row of spend."""
    if writes.born:
        await connection.execute(
            "INSERT INTO generations(id, version, flags, alarm_at, register) "
            "SELECT * FROM unnest($1::uuid[], $2::int[], $3::smallint[], $4::bigint[], $5::text[])",
            *zip(*writes.born, strict=True),
        )
        await connection.execute(
            "INSERT INTO requests(id, request) SELECT * FROM unnest($1::uuid[], $2::text[])",
            *zip(*writes.requests, strict=True),
        )
    if writes.updated:
        await connection.execute(
            "UPDATE generations g SET version = u.version, flags = u.flags, alarm_at = u.alarm_at, "
            "register = u.register FROM unnest($1::uuid[], $2::int[], $3::smallint[], $4::bigint[], $5::text[]) "
            "u(id, version, flags, alarm_at, register) WHERE g.id = u.id",
            *zip(*writes.updated, strict=True),
        )
    if writes.alarms:
        await connection.execute(
            "UPDATE generations g SET alarm_at = u.alarm_at "
            "FROM unnest($1::uuid[], $2::bigint[]) u(id, alarm_at) WHERE g.id = u.id",
            *zip(*writes.alarms, strict=True),
        )
    if writes.tasks:
        kinds, payloads = zip(*writes.tasks, strict=True)
        await jobs(connection).enqueue(list(kinds), list(payloads), [0] * len(kinds))
    if writes.done:
        await end_jobs(connection, writes.done)
    if writes.forgotten:
        await connection.execute(
            """UPDATE requests SET request = '{"input":{},"metadata":{}}' WHERE id = ANY($1)""",
            writes.forgotten,
        )
    if writes.expired:
        await connection.execute("DELETE FROM idempotency WHERE id = ANY($1)", writes.expired)
        await connection.execute("DELETE FROM requests WHERE id = ANY($1)", writes.expired)
        await connection.execute("DELETE FROM generations WHERE id = ANY($1)", writes.expired)
    if writes.spend:
        await connection.execute(
            "INSERT INTO spend AS s(day, part, micros) "
            "SELECT day, $2, micros FROM unnest($1::int[], $3::bigint[]) u(day, micros) ORDER BY day "
            "ON CONFLICT (day, part) DO UPDATE SET micros = s.micros + excluded.micros",
            list(writes.spend),
            part,
            list(writes.spend.values()),
        )
    if writes.prices:
        known = sorted((exactly(model), micros) for model, micros in writes.prices.items())
        await connection.execute(
            "INSERT INTO prices AS p(model, micros) SELECT * FROM unnest($1::text[], $2::bigint[]) "
            "ON CONFLICT (model) DO UPDATE SET micros = greatest(p.micros, excluded.micros)",
            *zip(*known, strict=True),
        )
    if writes.unclaimed:
        await keep_unclaimed(connection, writes.unclaimed)
    changed = [f"{generation_id.hex}:{version}:{marks}" for generation_id, version, marks in writes.news]
    changed += [f"{each.hex}:{GONE}:0" for each in writes.expired]
    for start in range(0, len(changed), NOTICE_IDS):
        notice = ",".join(changed[start : start + NOTICE_IDS])
        await connection.execute("SELECT pg_notify($1, $2)", CHANGES_CHANNEL, notice)


async def end_jobs(connection: Connection, numbers: Sequence[int]) -> None:
    """These jobs are done: PgQueuer's own statement, in this transaction."""
    queue = jobs(connection)
    await queue.driver.execute(
        queue.qbq.build_log_job_query(), list(numbers), ["successful"] * len(numbers), [None] * len(numbers)
    )


# Reading


async def read(connection: Connection, ids: Sequence[UUID]) -> dict[UUID, tuple[str, str]]:
    """The committed registers and requests of those that exist."""
    found = await connection.fetch(
        "SELECT g.id, g.register, r.request FROM generations g JOIN requests r USING (id) WHERE g.id = ANY($1)", ids
    )
    return {row[0]: (row[1], row[2]) for row in found}


async def read_registers(connection: Connection, ids: Sequence[UUID]) -> dict[UUID, str]:
    """The committed registers of those that exist."""
    found = await connection.fetch("SELECT id, register FROM generations WHERE id = ANY($1)", ids)
    return {row[0]: row[1] for row in found}


async def read_version(connection: Connection, generation_id: UUID) -> int:
    """The committed version. Raises GenerationNotFound."""
    version: int | None = await connection.fetchval("SELECT version FROM generations WHERE id = $1", generation_id)
    if version is None:
        raise not_found(generation_id)
    return version


async def versions(connection: Connection, ids: Iterable[UUID]) -> list[tuple[UUID, int]]:
    """The committed versions of those that exist."""
    found = await connection.fetch("SELECT id, version FROM generations WHERE id = ANY($1)", list(ids))
    return [(row[0], row[1]) for row in found]


async def ids(connection: Connection, flag: Flag | None, after: UUID | None, limit: int) -> list[UUID]:
    """Committed ids in order."""
    found = await connection.fetch(_FLAGGED[flag], after or UUID(int=0), limit)
    return [row[0] for row in found]


# What has no generation


async def keep_unclaimed(connection: Connection, deliveries: Sequence[Unclaimed]) -> None:
    """Keep deliveries; the oldest make way beyond the limits."""
    await connection.execute(
        "INSERT INTO unclaimed(generation_id, reason, body, digest, received_at) "
        "SELECT * FROM unnest($1::uuid[], $2::text[], $3::bytea[], $4::bytea[], $5::bigint[]) "
        "ON CONFLICT (digest) DO NOTHING",
        [each.generation_id for each in deliveries],
        [safe(each.reason) for each in deliveries],
        [each.body for each in deliveries],
        [digest_of(each.generation_id, each.body) for each in deliveries],
        [each.at_ms for each in deliveries],
    )
    await connection.execute(
        "DELETE FROM unclaimed WHERE number <= (SELECT max(number) FROM (SELECT number, "
        "sum(length(body)) OVER newest AS size, row_number() OVER newest AS place "
        "FROM unclaimed WINDOW newest AS (ORDER BY number DESC)) counted WHERE place > $1 OR size > $2)",
        UNCLAIMED_LIMIT,
        UNCLAIMED_BYTES,
    )


async def unclaimed(connection: Connection, limit: int, after: int) -> list[UnclaimedDelivery]:
    """The oldest first."""
    found = await connection.fetch(
        "SELECT number, generation_id, reason, body, received_at FROM unclaimed "
        "WHERE number > $1 ORDER BY number LIMIT $2",
        after,
        limit,
    )
    return [UnclaimedDelivery(row[0], row[1], row[2], row[3], from_ms(row[4])) for row in found]


async def forget_unclaimed(connection: Connection, numbers: Sequence[int]) -> None:
    """Drop these."""
    await connection.execute("DELETE FROM unclaimed WHERE number = ANY($1)", list(numbers))


# Parked tasks: PgQueuer holds the job, we hold the reason


async def park(connection: Connection, job: int, error: str, now_ms: int) -> None:
    """Nobody tries this job until `unpark`."""
    await connection.execute(
        "UPDATE pgqueuer SET status = 'failed', updated = now(), queue_manager_id = NULL WHERE id = $1", job
    )
    await connection.execute(
        "INSERT INTO parked(job, error, parked_at) VALUES ($1, $2, $3) "
        "ON CONFLICT (job) DO UPDATE SET error = excluded.error, parked_at = excluded.parked_at",
        job,
        safe(error),
        now_ms,
    )


async def parked(connection: Connection, limit: int) -> list[Parked]:
    """The oldest first."""
    found = await connection.fetch(
        "SELECT q.id, q.payload, q.entrypoint, p.error, p.parked_at FROM parked p "
        "JOIN pgqueuer q ON q.id = p.job WHERE q.status = 'failed' ORDER BY p.parked_at, q.id LIMIT $1",
        limit,
    )
    return [Parked(row[0], UUID(json.loads(row[1])[0]), row[2], row[3], from_ms(row[4])) for row in found]


async def unpark(connection: Connection, generation_id: UUID | None) -> int:
    """Make parked jobs due again; return how many."""
    found = await connection.fetch(
        "SELECT p.job, q.payload FROM parked p JOIN pgqueuer q ON q.id = p.job AND q.status = 'failed' "
        "ORDER BY p.job FOR UPDATE"
    )
    numbers = [row[0] for row in found if generation_id is None or json.loads(row[1])[0] == str(generation_id)]
    if numbers:
        await jobs(connection).requeue_jobs(numbers)
        await connection.execute("DELETE FROM parked WHERE job = ANY($1)", numbers)
    return len(numbers)


# Secrets and money


async def secret(connection: Connection, name: str, made: str) -> str:
    """The secret under `name`, which is `made` when there was none."""
    await connection.execute(
        "INSERT INTO secrets(name, secret) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING", name, made
    )
    kept: str = await connection.fetchval("SELECT secret FROM secrets WHERE name = $1", name)
    return kept


async def spent(connection: Connection, day: int) -> int:
    """Micro-dollars of one day."""
    micros: int = await connection.fetchval("SELECT coalesce(sum(micros), 0)::bigint FROM spend WHERE day = $1", day)
    return micros


async def prices(connection: Connection, models: Iterable[str]) -> dict[str, int]:
    """The highest costs that are known of these models."""
    found = await connection.fetch(
        "SELECT model, micros FROM prices WHERE model = ANY($1)", [exactly(model) for model in models]
    )
    return {json.loads(row[0]): row[1] for row in found}


async def highest_price(connection: Connection) -> int | None:
    """The highest cost that is known of any model."""
    micros: int | None = await connection.fetchval("SELECT max(micros) FROM prices")
    return micros


async def count_running(connection: Connection) -> int:
    """Generations that are not complete."""
    number: int = await connection.fetchval("SELECT count(*) FROM generations WHERE flags & 1 <> 0")
    return number


async def stats(connection: Connection, day: int) -> Stats:
    """What is going on in all processes together."""
    tasks = await connection.fetch(
        "SELECT entrypoint, count(*) FROM pgqueuer WHERE status IN ('queued', 'picked') AND entrypoint = ANY($1) "
        "GROUP BY entrypoint",
        list(TASK_KINDS),
    )
    row = await connection.fetchrow(
        "SELECT (SELECT count(*) FROM generations WHERE flags & 1 <> 0), "
        "(SELECT count(*) FROM generations WHERE flags & 2 <> 0), "
        "(SELECT count(*) FROM parked), (SELECT count(*) FROM unclaimed), "
        "(SELECT coalesce(extract(epoch FROM now() - min(created)), 0) FROM pgqueuer "
        "WHERE status IN ('queued', 'picked') AND entrypoint = ANY($1))",
        list(TASK_KINDS),
    )
    if row is None:
        raise RuntimeError("a SELECT without FROM gave no row")
    return Stats(
        running=row[0],
        projection_failed=row[1],
        spent_today_micros=await spent(connection, day),
        tasks={each[0]: each[1] for each in tasks},
        parked=row[2],
        unclaimed=row[3],
        oldest_task=float(row[4]),
    )


def exactly(text: str) -> str:
    """Any text as ASCII that PostgreSQL takes; no two texts become the same."""
    return json.dumps(text)


def safe(text: str) -> str:
    """Any text as ASCII that PostgreSQL takes, for people to read: no NUL, no lone surrogate."""
    return text.encode("ascii", "backslashreplace").replace(b"\0", b"\\x00").decode("ascii")
