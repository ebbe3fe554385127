"""The schema, as numbered steps that only ever get longer. Each runs once, in a transaction of its own."""

from __future__ import annotations

import sqlite3
from importlib.resources import files

from mcp_spaces.errors import WrongState

STEPS = ("0001_start", "0002_vault", "0003_authorities", "0004_browsers", "0005_pin", "0006_network_log")


def migrate(connection: sqlite3.Connection) -> None:
    """Bring the database to the newest schema. Does nothing when it is there already.

    Raises WrongState, and closes the connection, for a schema of a newer program: nothing in it is touched.
    """
    # sqlite_utils takes 0.2 s to import and is needed only when a database is opened.
    from sqlite_utils import Database, Migrations

    steps = Migrations("mcp-spaces")
    for name in STEPS:
        statements = files("mcp_spaces.state").joinpath("schema", f"{name}.sql").read_text("utf-8").split(";\n")

        def apply(database: Database, statements: list[str] = statements) -> None:
            for statement in statements:
                if statement.strip():
                    database.execute(statement)

        steps(name=name)(apply)
    database = Database(connection, execute_plugins=False)
    unknown = [step.name for step in steps.applied(database) if step.name not in STEPS]
    if unknown:
        connection.close()
        raise WrongState(
            f"The database is of a newer mcp-spaces: its schema has {unknown[-1]}, this version ends at {STEPS[-1]}.",
            hint="Upgrade mcp-spaces. To stay with this version, restore the backup made before the upgrade:"
            " docs/operations.md.",
        )
    steps.apply(database)
