"""Exports of other vaults, hostile ones among them (V21)."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from mcp_spaces.errors import InvalidInput, SpacesError
from mcp_spaces.vault.import_text import ENTRIES_MAX
from mcp_spaces.vault.imports import BYTES_MAX, Format, parse_export
from mcp_spaces.vault.model import PATH
from tests.security.app import open_world
from tests.security.vaults import CANARY, world_with


def bitwarden(*items: dict[str, Any], **more: Any) -> bytes:
    return json.dumps({"encrypted": False, "folders": [], "items": list(items), **more}).encode()


def login_item(name: str = "Site", **login: Any) -> dict[str, Any]:
    return {"type": 1, "name": name, "login": {"username": "ann", "password": CANARY, **login}}


HOSTILE = {
    "huge": b"[" + b" " * (BYTES_MAX + 1),
    "not text": b"\xff\xfe{}",
    "no json": b'{"items": [',
    "key twice": b'{"items": [], "items": [{"type": 1}]}',
    "deep": b"[" * 100_000,
    "encrypted": bitwarden(encrypted=True),
    "unknown form": b'{"secrets": []}',
    "items no list": b'{"items": {"a": 1}, "accounts": 3}',
    "item no object": b'{"items": [1]}',
    "name no text": bitwarden({"type": 1, "name": 3, "login": {"password": CANARY}}),
    "password no text": bitwarden(login_item(password={"a": CANARY})),
    "huge password": bitwarden(login_item(password="x" * 70_000)),
    "bad seed": bitwarden(login_item(totp=CANARY)),
    "lone surrogate": b'{"items": [{"type": 1, "name": "a", "login": {"password": "\\ud800abcdef"}}]}',
    "too many": bitwarden(*({"type": 2, "name": f"n{n}", "notes": "x"} for n in range(10_001))),
    "too many in many vaults": json.dumps({"accounts": [{"vaults": [{"items": [{}] * 5_001}] * 2}]}).encode(),
    "same twice": bitwarden(login_item(), login_item()),
    "empty csv": b"",
    "other csv": b"a,b\n1,2\n",
    "column twice": b"title,username,password,password\na,b,c,d\n",
    "row too long": b"title,username,password\na,b,c,d\n",
    "open quote": b'title,username,password\n"a,b,c\n',
    "open quote in the last cell": b'title,username,password\na,b,"c\nd,e,f\n',
    "text behind a quote": b'title,username,password\n"a"b,c,d\n',
    "million rows": b"title,username,password\n" + b"a,b,c\n" * 1_000_000,
}


@pytest.mark.parametrize("name", HOSTILE)
async def test_v21_a_hostile_export_is_refused_whole(tmp_path: Path, name: str) -> None:
    file = tmp_path / "export"
    file.write_bytes(HOSTILE[name])
    async with open_world(tmp_path) as world:
        with pytest.raises(InvalidInput) as refused:
            await world.govern("vault.import", file=str(file))
        assert CANARY not in f"{refused.value.message} {refused.value.hint}"
        assert (await world.govern("vault.list")).total == 0


ROWS = b"title,username,password\n" + b"".join(b"n%d,ann,password-%d\n" % (n, n) for n in range(ENTRIES_MAX + 1))
WHOLE = bitwarden(login_item())
TOO_MUCH = {
    "bytes": (WHOLE.ljust(BYTES_MAX + 1), "more than 16 MiB"),
    "objects": (bitwarden(*({"type": 3, "name": f"n{n}", "card": {}} for n in range(ENTRIES_MAX + 1))), "more than 10,000"),
    "rows": (ROWS, "more than 10,000 items"),
    "an archive": (b"PK\x03\x04" + WHOLE, "it is an archive"),
}  # fmt: skip


@pytest.mark.parametrize("what", TOO_MUCH)
def test_v21_too_much_is_refused_for_being_too_much(what: str) -> None:
    """Nothing else is wrong with these."""
    content, words = TOO_MUCH[what]
    with pytest.raises(InvalidInput, match=words):
        parse_export(content, chosen=Format.AUTO, prefix="x")


def test_v21_what_is_within_the_limits_is_taken() -> None:
    assert len(parse_export(WHOLE.ljust(BYTES_MAX), chosen=Format.AUTO, prefix="x").items) == 1
    assert len(parse_export(ROWS[: ROWS.rindex(b"n1")], chosen=Format.AUTO, prefix="x").items) == ENTRIES_MAX


async def test_v21_all_of_an_export_is_stored_or_nothing(tmp_path: Path) -> None:
    file = tmp_path / "export.json"
    file.write_bytes(bitwarden(login_item("One"), login_item("Two"), {"type": 3, "name": "Visa", "card": {}}))
    async with open_world(tmp_path) as world:
        tried = await world.govern("vault.import", file=str(file), dry_run=True)
        assert tried.paths == ["imported/one", "imported/two"]
        assert tried.skipped == ["item 3: card"]
        assert (await world.govern("vault.list")).total == 0
        await world_with(world, imported__two="already here")
        with pytest.raises(SpacesError) as refused:
            await world.govern("vault.import", file=str(file))
        assert refused.value.code == "conflict"
        assert (await world.govern("vault.list")).total == 1
        await world.govern("vault.import", file=str(file), prefix="mine")
        assert (await world.govern("vault.get", path="mine/two")).value == CANARY


@pytest.mark.parametrize("cell", ["=cmd|' /C calc'!A0", "+1+1", "-2", "@SUM(A1)", "\tx", '=HYPERLINK("http://x")'])
def test_v21_a_formula_is_text_like_any_other(cell: str) -> None:
    quoted = '"' + cell.replace('"', '""') + '"'
    text = f"Title,Url,Username,Password,OTPAuth,Favorite,Archived,Tags,Notes\r\n{quoted},{quoted},,{quoted},,,,,\r\n"
    (item,) = parse_export(text.encode(), chosen=Format.AUTO, prefix="x").items
    assert item.fields == {"password": cell}
    assert item.bindings.origins == ()
    assert re.fullmatch(PATH, item.path)
