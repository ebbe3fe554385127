"""Exports as files, and the limits of what their items become."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import anyio
import pytest

from mcp_spaces.errors import InvalidInput
from mcp_spaces.vault.import_items import ORIGINS_MAX
from mcp_spaces.vault.imports import BYTES_MAX, Export, Format, parse_export, read_export
from tests.descriptors import open_here


def export_of(*items: dict[str, Any], prefix: str = "in", folder: str = "") -> Export:
    folders = [{"id": "f", "name": folder}]
    whole = {"encrypted": False, "folders": folders, "items": [{"folderId": "f", **item} for item in items]}
    return parse_export(json.dumps(whole).encode(), chosen=Format.AUTO, prefix=prefix)


def login(name: str = "Site", *uris: str, **more: str) -> dict[str, Any]:
    fields = {"username": "ann", "password": "pass word", **more}
    return {"type": 1, "name": name, "login": {**fields, "uris": [{"uri": uri} for uri in uris]}}


async def read(file: Path) -> Export:
    with anyio.fail_after(20):
        return await read_export(file, chosen=Format.AUTO, prefix="in")


async def test_only_a_plain_file_with_a_whole_path_is_read(tmp_path: Path) -> None:
    """A pipe would hold the daemon up, a device would never end."""
    file = tmp_path / "export.json"
    file.write_text('{"items": []}')
    assert (await read(file)).items == []
    os.mkfifo(tmp_path / "pipe")
    before = open_here()
    pipe, none = tmp_path / "pipe", tmp_path / "none"
    for wrong in (Path("export.json"), pipe, tmp_path, none, Path("/dev/zero"), tmp_path / "a\0b"):
        with pytest.raises(InvalidInput):
            await read(wrong)
    assert open_here() <= before
    with pytest.raises(InvalidInput, match=f"{tmp_path}/none: No such file"):
        await read(tmp_path / "none")


async def test_an_export_has_16_mib_at_most(tmp_path: Path) -> None:
    assert BYTES_MAX == 16 << 20
    file = tmp_path / "export.json"
    content = b'{"items": []}'
    file.write_bytes(content + b" " * (BYTES_MAX - len(content)))
    assert (await read(file)).items == []
    with file.open("ab") as more:
        more.write(b" ")
    with pytest.raises(InvalidInput, match="16 MiB"):
        await read(file)


def test_only_exact_https_origins_become_bindings() -> None:
    (item,) = export_of(
        login(
            "Site", "https://a.example/login?x", "https://A.example", "https://b.example:443", "https://b.example:8443",
            "http://c.example", "https://user@d.example", "https://*.e.example", "https://f.example:99999", "ftp://g.example",
            "https://", "https://[::1]/", "https://[x", " https://h.example ", "",
        )
    ).items  # fmt: skip
    assert item.bindings.origins == (
        "https://a.example",
        "https://b.example",
        "https://b.example:8443",
        "https://h.example",
    )
    assert (item.bindings.origin_patterns, item.bindings.headers) == ((), ())


def test_of_very_many_origins_the_first_ones_count() -> None:
    (item,) = export_of(login("Site", *(f"https://h{number}.example" for number in range(ORIGINS_MAX + 1)))).items
    assert item.bindings.origins == tuple(f"https://h{number}.example" for number in range(ORIGINS_MAX))


def test_a_path_has_eight_segments_at_most() -> None:
    assert export_of(login(), prefix="a/b/c/d/e/f", folder="Work").items[0].path == "a/b/c/d/e/f/work/site"
    assert export_of(login(), prefix="a/b/c/d/e/f/g").items[0].path == "a/b/c/d/e/f/g/site"
    with pytest.raises(InvalidInput, match="too many segments"):
        export_of(login(), prefix="a/b/c/d/e/f/g", folder="Work")


def test_a_long_or_odd_name_becomes_a_plain_segment_and_stays_readable_as_a_label() -> None:
    (item,) = export_of(login("Crème\u202e brûlée\n" + "x" * 500)).items
    assert item.path == "in/" + ("creme-brulee-" + "x" * 100)[:60]
    assert item.label == ("Crème brûlée" + "x" * 500)[:200]
    # What was cut does not end with a hyphen.
    assert export_of(login("a" * 59 + " b")).items[0].path == "in/" + "a" * 59


def test_what_has_no_place_in_the_vault_is_named_by_its_number_and_kind() -> None:
    export = export_of(
        {"type": 3, "name": "Visa"}, {"type": 9}, {"type": True}, {"type": [1]}, {"type": 2, "name": "Empty"},
        login("No password", password=""), login("A code alone", password="", totp="JBSWY3DPEHPK3PXP"),
    )  # fmt: skip
    assert [item.path for item in export.items] == ["in/a-code-alone"]
    assert export.skipped[:2] == ["item 1: card", "item 2: unknown"]
    assert export.skipped[3:] == ["item 4: unknown", "item 5: empty", "item 6: a login without a password"]


@pytest.mark.parametrize(
    "rows",
    [
        b"title,username,password\nBank,ann,\nSite,ann,pass word\n",
        b"folder,type,name,login_uri,login_username,login_password\n,login,Bank,,ann,\n,login,Site,,ann,pass word\n",
    ],
    ids=["1password", "bitwarden"],
)
def test_a_row_without_a_password_is_skipped_and_said_so(rows: bytes) -> None:
    export = parse_export(rows, chosen=Format.AUTO, prefix="in")
    assert [item.path for item in export.items] == ["in/site"]
    assert export.skipped == ["item 1: a login without a password"]
