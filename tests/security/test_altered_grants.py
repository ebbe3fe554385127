"""K11: rows that grant something, against whoever can write to their file."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from mcp_spaces.core.caller import Kind
from mcp_spaces.core.ids import Clock, new_id
from mcp_spaces.core.scope import Scope, covers
from mcp_spaces.errors import SpacesError
from mcp_spaces.identity.model import Key, new_token
from mcp_spaces.identity.store import Identity
from mcp_spaces.spaces.model import Space, SpaceRequest, SpaceState
from mcp_spaces.spaces.store import RuntimeStore, SpaceStore
from mcp_spaces.state.database import Database
from tests.storage.bench import SEALER, granted

pytestmark = pytest.mark.anyio


@dataclass
class Grants:
    """A closed database with principals, keys and spaces, and what they grant."""

    path: Path
    token: str
    scope: Scope
    space_id: str
    ceiling: Scope


@pytest.fixture
async def grants(tmp_path: Path) -> Grants:
    database = Database.open(tmp_path / "state.db", sealer=SEALER)
    clock = Clock()
    identity, spaces = Identity(database, clock), SpaceStore(database, RuntimeStore(database))
    await identity.ensure_defaults()
    scope = granted(own="ro", exports="ro:reports")
    principal = await identity.add("ci", kind=Kind.AGENT, scope=scope, policy="restrictive")
    made, space_id = new_token(), new_id("sp")
    await identity.add_key(
        Key(
            id=made.key_id,
            principal_id=principal.id,
            label="ci",
            secret_sha256=made.secret_sha256,
            spaces=(space_id,),
            scope=scope,
            operator=False,
            created_at=0,
            expires_at=None,
        )
    )
    space = Space(
        id=space_id,
        owner_id=principal.id,
        state=SpaceState.RUNNING,
        requested=SpaceRequest(name="work"),
        ceiling=scope,
        version=1,
        created_at=0,
        expires_at=None,
    )
    await spaces.add(space, most=10)
    database.close()
    with closing(sqlite3.connect(tmp_path / "state.db")) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
    return Grants(tmp_path / "state.db", made.token, scope, space_id, scope)


async def test_k11_no_flipped_byte_gives_a_wider_permission_or_a_crash(grants: Grants) -> None:
    """On the pages that hold a key or a space: each byte in use at the page's beginning, where it says what is where,
    and every third of its rows, each of which is under one seal as a whole; and the file's header."""
    original = grants.path.read_bytes()
    pages = _pages(original, holding=(b'"secret_sha256"', b'"owner_id"'))
    assert len(pages) >= len(original) / 4096 / 100
    offsets = list(range(100))
    for page in pages:
        used = [at for at in range(page, page + 4096) if any(original[max(page, at - 2) : at + 3])]
        offsets += used[:200] + used[200::3]
    refused = 0
    for offset in offsets:
        damaged = bytearray(original)
        damaged[offset] ^= 1 << (offset % 8)
        grants.path.write_bytes(damaged)
        refused += not _grants_the_same_or_less(grants)
    assert refused > len(offsets) // 2


def _pages(content: bytes, *, holding: tuple[bytes, ...]) -> list[int]:
    starts = range(4096, len(content), 4096)
    return [start for start in starts if any(mark in content[start : start + 4096] for mark in holding)]


def _grants_the_same_or_less(grants: Grants) -> bool:
    """False when the damage was noticed. Anything but an error of ours, or a wider grant, fails the test."""
    try:
        database = Database.open(grants.path, sealer=SEALER)
    except SpacesError:
        return False
    try:
        clock = Clock()
        identity, spaces = Identity(database, clock), SpaceStore(database, RuntimeStore(database))
        caller = identity.authenticate(grants.token)
        assert covers(grants.scope, caller.scope) and not caller.operator
        assert caller.spaces == frozenset({grants.space_id}) and caller.policy.name == "restrictive"
        place = spaces.space(caller, grants.space_id)
        assert place.id == grants.space_id and covers(grants.ceiling, place.ceiling)
    except SpacesError:
        return False
    finally:
        database.close()
    return True
