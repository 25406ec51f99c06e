"""Reads the whole state in PostgreSQL and says what cannot be read. Changes nothing."""

from uuid import UUID

from runware_provider.durable.postgres_pool import Connection
from runware_provider.errors import StateDamaged, StateTooNew
from runware_provider.register import decode, decode_request

PAGE = 500
TOLD = 100
"""Faults that are listed at most."""


async def check_state(connection: Connection) -> list[str]:
    """One line a fault, the first `TOLD` of them."""
    faults: list[str] = []
    position = UUID(int=0)
    while len(faults) < TOLD:
        page = await connection.fetch(
            "SELECT g.id, g.register, r.request FROM generations g LEFT JOIN requests r USING (id) "
            "WHERE g.id > $1 ORDER BY g.id LIMIT $2",
            position,
            PAGE,
        )
        if not page:
            break
        for generation_id, register, request in page:
            try:
                decode(register)
                if request is None:
                    faults.append(f"generation {generation_id} has lost its request")
                else:
                    decode_request(request)
            except (StateDamaged, StateTooNew) as error:
                faults.append(f"generation {generation_id}: {error}")
        position = page[-1][0]
    return faults[:TOLD]


async def advise(connection: Connection) -> list[str]:
    """What an operator should change, then how."""
    if await connection.fetchval("SHOW synchronous_commit") == "off":
        return [
            "synchronous_commit is off: a crash of the server forgets what was acknowledged",
            "let the server, this database and this user have synchronous_commit = on",
        ]
    return []
