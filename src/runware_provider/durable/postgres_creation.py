"""Whether generations may be made: keys that were used before, limits, and the day's budget; inside a transaction."""

from collections.abc import Sequence
from uuid import UUID

from runware_provider.durable import Birth, Created
from runware_provider.durable import postgres_store as store
from runware_provider.durable.admission import made_before, price_micros, within_budget
from runware_provider.durable.postgres_batch import Creation, Entry
from runware_provider.durable.postgres_pool import Connection
from runware_provider.durable.records import day_of
from runware_provider.errors import IdempotencyConflict, OverBudget, TooManyInFlight
from runware_provider.generation import Generation
from runware_provider.schedule import Policy

Outcomes = dict[Creation, Created | Exception]


async def admit(
    connection: Connection, creations: Sequence[Creation], policy: Policy
) -> tuple[dict[Creation, Entry], Outcomes]:
    """What is to be written for those that may be made, and what every one is told after the commit.

    Limits hold over all nodes: whoever counts against one holds a lock until its commit.
    """
    births = [each.birth for each in creations]
    if any(birth.max_in_flight is not None or birth.daily_budget_micros is not None for birth in births):
        await connection.execute("SELECT pg_advisory_xact_lock($1)", store.CREATION_LOCK)
    desk = await _Desk.open(connection, births)
    entries: dict[Creation, Entry] = {}
    outcomes: Outcomes = {}
    for creation in creations:
        birth = creation.birth
        try:
            known = desk.known(birth)
            if known is not None:
                outcomes[creation] = known
                continue
            price = desk.admit(birth)
        except (IdempotencyConflict, TooManyInFlight, OverBudget) as refusal:
            outcomes[creation] = refusal
            continue
        generation, orders = Generation.init(
            id=birth.id,
            task_uuid=birth.task_uuid,
            expected=birth.expected,
            now=birth.now,
            deadline=birth.deadline,
            policy=policy,
            model=birth.model,
            price_micros=price,
        )
        entries[creation] = Entry.make(generation, orders, creation.request)
        desk.made(birth, generation.spent_micros())
        outcomes[creation] = Created(birth.id, created=True)
    lost = await _lost(connection, list(entries))
    if lost:
        for creation in lost:
            del entries[creation]
        keys = await _keys(connection, [creation.birth for creation in lost])
        desk.keys |= keys
        for creation in creations:  # those, too, that were told of the one that was lost
            if creation.birth.idempotency is not None and creation.birth.idempotency[0] in keys:
                outcomes[creation] = _told(desk, creation.birth)
    return entries, outcomes


def _told(desk: "_Desk", birth: Birth) -> Created | Exception:
    try:
        return desk.known(birth) or Created(birth.id, created=False)
    except IdempotencyConflict as refusal:
        return refusal


class _Desk:
    """What is known of keys, limits and money; kept true while a batch goes through it."""

    def __init__(self, keys: dict[str, tuple[UUID, str]], ids: set[UUID]) -> None:
        self.keys = keys
        self._ids = ids
        self._running = 0
        self._spent: dict[int, int] = {}
        self._prices: dict[str, int] = {}
        self._highest: int | None = None

    @classmethod
    async def open(cls, connection: Connection, births: Sequence[Birth]) -> "_Desk":
        found = await connection.fetch("SELECT id FROM generations WHERE id = ANY($1)", [birth.id for birth in births])
        desk = cls(await _keys(connection, births), {row[0] for row in found})
        if any(birth.max_in_flight is not None for birth in births):
            desk._running = await store.count_running(connection)
        models = {birth.model for birth in births if birth.model is not None}
        desk._prices = await store.prices(connection, models)
        if len(desk._prices) < len(models) or None in {birth.model for birth in births}:
            desk._highest = await store.highest_price(connection)
        for day in {day_of(birth.now) for birth in births if birth.daily_budget_micros is not None}:
            desk._spent[day] = await store.spent(connection, day)
        return desk

    def known(self, birth: Birth) -> Created | None:
        """The generation that was made before. Raises IdempotencyConflict."""
        if birth.idempotency is not None and (kept := self.keys.get(birth.idempotency[0])):
            return made_before(birth, kept)
        return Created(birth.id, created=False) if birth.id in self._ids else None

    def admit(self, birth: Birth) -> int:
        """The price of one image. Raises TooManyInFlight, OverBudget."""
        if birth.max_in_flight is not None and self._running >= birth.max_in_flight:
            raise TooManyInFlight(birth.max_in_flight)
        price = price_micros(self._prices.get(birth.model or ""), self._highest)
        within_budget(birth, price, self._spent.get(day_of(birth.now), 0))
        return price

    def made(self, birth: Birth, spent: int) -> None:
        """Count it."""
        self._ids.add(birth.id)
        self._running += 1
        day = day_of(birth.now)
        self._spent[day] = self._spent.get(day, 0) + spent
        if birth.idempotency is not None:
            self.keys[birth.idempotency[0]] = (birth.id, birth.idempotency[1])


async def _keys(connection: Connection, births: Sequence[Birth]) -> dict[str, tuple[UUID, str]]:
    wanted = {store.exactly(birth.idempotency[0]): birth.idempotency[0] for birth in births if birth.idempotency}
    if not wanted:
        return {}
    found = await connection.fetch("SELECT key, id, digest FROM idempotency WHERE key = ANY($1)", list(wanted))
    return {wanted[row[0]]: (row[1], row[2]) for row in found}


async def _lost(connection: Connection, made: Sequence[Creation]) -> list[Creation]:
    """Take the keys; those whose key another node has taken since it was looked up."""
    keyed = sorted(
        (store.exactly(each.birth.idempotency[0]), each.birth.idempotency[1], each.birth.id, each)
        for each in made
        if each.birth.idempotency is not None
    )
    if not keyed:
        return []
    keys, digests, ids, creations = zip(*keyed, strict=True)
    # In order of key: two nodes that take the same keys must not wait for each other in a circle.
    taken = await connection.fetch(
        "INSERT INTO idempotency(key, digest, id) SELECT * FROM unnest($1::text[], $2::text[], $3::uuid[]) "
        "u(key, digest, id) ORDER BY key ON CONFLICT (key) DO NOTHING RETURNING key",
        list(keys),
        list(digests),
        list(ids),
    )
    ours = {row[0] for row in taken}
    return [creation for key, creation in zip(keys, creations, strict=True) if key not in ours]
