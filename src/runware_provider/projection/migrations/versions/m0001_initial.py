"""The first schema: generations, their artifacts, their labels."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# Written out, not taken from `tables.py`: a migration says what it did on its day.
_INTEGER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_ORDERED = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Make the tables and their indexes."""
    op.create_table(
        "generations",
        sa.Column("id", _ORDERED, primary_key=True),
        sa.Column("task_uuid", sa.Text, nullable=False),
        sa.Column("version", _INTEGER, nullable=False),
        sa.Column("status", sa.Text),
        sa.Column("model", sa.Text),
        sa.Column("width", _INTEGER),
        sa.Column("height", _INTEGER),
        sa.Column("expected", _INTEGER),
        sa.Column("stored", _INTEGER),
        sa.Column("failed", _INTEGER),
        sa.Column("missing", _INTEGER),
        sa.Column("cost_micros", _INTEGER),
        sa.Column("error_code", sa.Text),
        sa.Column("created_at", _ORDERED, nullable=False),
        sa.Column("dispatched_at", _ORDERED),
        sa.Column("completed_at", _ORDERED),
        sa.Column("deleted_at", _ORDERED),
        sa.Column("metadata", sa.Text),
        sa.Column("output_errors", sa.Text),
        sa.Column("prompt", sa.Text),
        sa.Column("negative_prompt", sa.Text),
        sa.Column("error", sa.Text),
        sa.Column("input", sa.Text),
    )
    op.create_table(
        "artifacts",
        sa.Column("generation_id", _ORDERED, primary_key=True),
        sa.Column("id", _ORDERED, primary_key=True),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("content_type", sa.Text, nullable=False),
        sa.Column("size_bytes", _INTEGER, nullable=False),
        sa.Column("sha256", sa.Text, nullable=False),
        sa.Column("width", _INTEGER, nullable=False),
        sa.Column("height", _INTEGER, nullable=False),
        sa.Column("seed", _INTEGER),
        sa.Column("cost_micros", _INTEGER),
        sa.Column("image_uuid", sa.Text, nullable=False),
        sa.Column("created_at", _ORDERED, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "generation_metadata",
        sa.Column("generation_id", _ORDERED, primary_key=True),
        sa.Column("key", _ORDERED, primary_key=True),
        sa.Column("value", _ORDERED, nullable=False),
        sa.Column("created_at", _ORDERED, nullable=False),
        sqlite_with_rowid=False,
    )
    shown = sa.text("deleted_at IS NULL")
    for name, *before in (
        ("ix_generations_created",),
        ("ix_generations_status", "status"),
        ("ix_generations_model", "model"),
        ("ix_generations_status_model", "status", "model"),
    ):
        op.create_index(name, "generations", [*before, "created_at", "id"], sqlite_where=shown, postgresql_where=shown)
    op.create_index(
        "ix_generation_metadata_label", "generation_metadata", ["key", "value", "created_at", "generation_id"]
    )
