"""The tables of the read model, on every target.

- **Times** are text, `2026-11-25T14:11:01.123Z`: of fixed width, so that order of text is order of time; readable in
  every SQL tool; understood by SQLite's and PostgreSQL's date functions; and bound as a string, the only kind of
  parameter that D1's API takes.
- **A deleted generation** keeps its row as a tombstone, so that no older version brings it back. The indexes leave
  tombstones out: a page reads only what it shows.
- **No foreign keys**: on D1 an artifact is written before its generation.
- What pages do not show stands last, so that SQLite never walks its overflow pages for a list.
"""

from sqlalchemy import BigInteger, Column, Index, Integer, MetaData, Table, Text

metadata = MetaData()

_INTEGER = BigInteger().with_variant(Integer(), "sqlite")
# Order and equality by bytes: keyset cursors need the same order on every target.
_ORDERED = Text().with_variant(Text(collation="C"), "postgresql")

generations = Table(
    "generations",
    metadata,
    Column("id", _ORDERED, primary_key=True),
    Column("task_uuid", Text, nullable=False),
    Column("version", _INTEGER, nullable=False),
    Column("status", Text),  # running, completed or failed; NULL once deleted, as all but ids and times
    Column("model", Text),
    Column("width", _INTEGER),  # as asked for; each artifact has its own
    Column("height", _INTEGER),
    Column("expected", _INTEGER),
    Column("stored", _INTEGER),
    Column("failed", _INTEGER),
    Column("missing", _INTEGER),
    Column("cost_micros", _INTEGER),  # sum of what is known; NULL when nothing is
    Column("error_code", Text),
    Column("created_at", _ORDERED, nullable=False),
    Column("dispatched_at", _ORDERED),
    Column("completed_at", _ORDERED),
    Column("deleted_at", _ORDERED),
    Column("metadata", Text),  # JSON object: the caller's labels; to filter by them there is generation_metadata
    Column("output_errors", Text),  # JSON object: error code to number of outputs
    Column("prompt", Text),
    Column("negative_prompt", Text),
    Column("error", Text),  # JSON: the error of the whole generation
    Column("input", Text),  # JSON: as sent, without long strings
)

artifacts = Table(
    "artifacts",
    metadata,
    Column("generation_id", _ORDERED, primary_key=True),
    Column("id", _ORDERED, primary_key=True),
    Column("key", Text, nullable=False),
    Column("content_type", Text, nullable=False),
    Column("size_bytes", _INTEGER, nullable=False),
    Column("sha256", Text, nullable=False),
    Column("width", _INTEGER, nullable=False),
    Column("height", _INTEGER, nullable=False),
    Column("seed", _INTEGER),  # NULL when unknown or beyond 64 bits
    Column("cost_micros", _INTEGER),
    Column("image_uuid", Text, nullable=False),
    Column("created_at", _ORDERED, nullable=False),
    # Clustered by generation: the artifacts of one generation lie on one page.
    sqlite_with_rowid=False,
)

generation_metadata = Table(
    "generation_metadata",
    metadata,
    Column("generation_id", _ORDERED, primary_key=True),
    Column("key", _ORDERED, primary_key=True),
    Column("value", _ORDERED, nullable=False),
    Column("created_at", _ORDERED, nullable=False),  # the generation's: one index gives a label's pages in order
    sqlite_with_rowid=False,
)

_shown = generations.c.deleted_at.is_(None)


def _newest_first(name: str, *before: Column[str | None]) -> Index:
    return Index(
        name, *before, generations.c.created_at, generations.c.id, sqlite_where=_shown, postgresql_where=_shown
    )


_newest_first("ix_generations_created")
_newest_first("ix_generations_status", generations.c.status)
_newest_first("ix_generations_model", generations.c.model)
_newest_first("ix_generations_status_model", generations.c.status, generations.c.model)
Index(
    "ix_generation_metadata_label",
    generation_metadata.c.key,
    generation_metadata.c.value,
    generation_metadata.c.created_at,
    generation_metadata.c.generation_id,
)
