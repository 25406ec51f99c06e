"""What Alembic runs to make SQL of migrations. It never connects: the target runs what comes out."""

from alembic import context

from runware_provider.projection.schema import VERSION_TABLE

context.configure(
    dialect_name=context.config.attributes["dialect"],
    as_sql=True,
    literal_binds=True,
    transactional_ddl=False,  # the target begins and commits
    version_table=VERSION_TABLE,
)
context.run_migrations()
