"""What the vault's security tests start from: secrets in an open app, and a mount of them."""

from __future__ import annotations

from typing import Any

import pytest

from mcp_spaces.errors import SpacesError
from mcp_spaces.state.database import Database
from tests.security.app import World

CANARY = "kanarie-7f3Q+zz/9 é"
"""Changes in every encoding, and has a space, a slash, a plus and a letter beyond ASCII."""


async def world_with(world: World, **secrets: str) -> None:
    for path, value in secrets.items():
        await world.govern("vault.set", path=path.replace("__", "/"), kind="value", value=value)


async def mounted(
    world: World, *, allow: list[str], deny: list[str] | None = None, raw: bool = False, name: str = "work"
) -> str:
    """A space of the local agent with a vault mount; the principal may have that much."""
    vault = {"allow": allow, "deny": deny or [], "allow_raw_reads": raw}
    await world.govern(
        "principal.grant", principal="local-agent", policy="permissive", scope={"vault": {**vault, "deny": []}}
    )
    return await world.space(name, policy={"preset": "permissive"}, mounts={"vault": vault})


async def refusal(world: World, operation_id: str, **arguments: Any) -> SpacesError:
    with pytest.raises(SpacesError) as refused:
        await world.call(operation_id, **arguments)
    return refused.value


def everything_stored(database: Database) -> str:
    """Every cell of every table as it is: what repr or JSON would escape once more could not be found in it."""
    tables = [row["name"] for row in database.read("SELECT name FROM sqlite_master WHERE type = 'table'")]
    cells = (cell for table in tables for row in database.read(f"SELECT * FROM {table}") for cell in row)
    return "\n".join(cell.decode("latin-1") if isinstance(cell, bytes) else str(cell) for cell in cells)
