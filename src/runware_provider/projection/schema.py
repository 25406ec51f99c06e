"""Which schema this release knows. Told without Alembic, so that a start at head is quick."""

from runware_provider.errors import ConfigurationError

VERSION_TABLE = "runware_provider_schema"
"""Where Alembic keeps the revision; a name of our own, because the database may be the team's with its own Alembic."""

REVISIONS = ("0001",)
"""Every migration, oldest first; the last is the head. A test holds this against Alembic's own directory."""


def missing_revisions(found: str | None) -> tuple[str, ...]:
    """The migrations a schema at revision `found` (None: no schema at all) still needs, oldest first.

    Raises ConfigurationError when a newer release made it: it must be left untouched.
    """
    if found is None:
        return REVISIONS
    if found not in REVISIONS:
        raise ConfigurationError(
            f"The read model's schema is {found!r}, newer than this release knows ({REVISIONS[-1]!r}): "
            "install the release that migrated it."
        )
    return REVISIONS[REVISIONS.index(found) + 1 :]
