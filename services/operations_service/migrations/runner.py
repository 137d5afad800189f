"""Runs the steps that are missing, by alembic, in the transaction of the connection."""

from pathlib import Path
from typing import Any

import sqlalchemy as sa
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.runtime.environment import EnvironmentContext
from alembic.script import ScriptDirectory

_FOLDER = Path(__file__).parent


def revision_of(schema_version: int) -> str:
    """Returns what alembic calls a version."""
    return f"{schema_version:04d}"


def migrate(connection: sa.Connection, from_version: int) -> None:
    """Brings the tables from a version to the newest one.

    The registry's row says which version they have; alembic's own table is made from it, so that
    there is one truth.
    """
    config = Config()
    config.set_main_option("script_location", str(_FOLDER))
    scripts = ScriptDirectory.from_config(config)
    MigrationContext.configure(connection).stamp(scripts, revision_of(from_version))

    def steps(revision: Any, _context: MigrationContext) -> Any:
        return scripts._upgrade_revs("head", revision)  # noqa: SLF001 - as alembic's command does

    with EnvironmentContext(config, scripts, fn=steps) as environment:
        environment.configure(connection=connection, transactional_ddl=False)
        environment.run_migrations()
