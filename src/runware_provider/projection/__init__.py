"""The read model: what the team queries. It follows the state by version and can be made anew from it at any time.

Importing this package imports neither SQLAlchemy (155 ms) nor Alembic (250 ms): opening needs the first, migrating
both.
"""

from runware_provider.projection.migrate import migrate, migration_sql, pending, write_migrations
from runware_provider.projection.read_model import Projection
from runware_provider.projection.target import D1Access, Target
from runware_provider.projection.writer import ProjectionWriter

__all__ = [
    "D1Access",
    "Projection",
    "ProjectionWriter",
    "Target",
    "migrate",
    "migration_sql",
    "pending",
    "write_migrations",
]
