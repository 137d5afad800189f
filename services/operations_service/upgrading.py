"""Bringing a database to the version of this Backlane: made anew, migrated, or refused."""

import uuid

import sqlalchemy as sa

from backlane.errors import StoreUnavailableError
from operations_service import schema


def upgrade(connection: sa.Connection, place: str) -> str:
    """Makes the tables where there are none, and migrates older ones, in this transaction.

    Returns the uid of the registry. `place` names the database in an error. The caller holds a
    lock that keeps others out.

    Raises:
        StoreUnavailableError: a newer version of Backlane wrote it.

    """
    if not sa.inspect(connection).has_table(schema.registry.name):
        schema.metadata.create_all(connection, checkfirst=False)
        connection.execute(schema.registry.insert().values(_new_registry()))
    columns = schema.registry.c
    row = connection.execute(sa.select(columns.schema_version, columns.registry_uid)).one()
    version, registry_uid = row
    if version > schema.SCHEMA_VERSION:
        raise StoreUnavailableError(
            f"{place} has schema version {version}, and this Backlane knows version "
            f"{schema.SCHEMA_VERSION}. Run the Backlane that wrote it, or a newer one.",
            metadata={
                "store": place,
                "schema_version": str(version),
                "known_version": str(schema.SCHEMA_VERSION),
            },
        )
    if version < schema.SCHEMA_VERSION:
        # Half a second of imports, so only where there is something to migrate.
        from operations_service.migrations.runner import migrate

        migrate(connection, version)
    return str(registry_uid)


def _new_registry() -> dict[str, object]:
    return {
        "id": 1,
        "schema_version": schema.SCHEMA_VERSION,
        "registry_uid": str(uuid.uuid4()),
        "revision": 0,
        "oldest_revision": 0,
    }
