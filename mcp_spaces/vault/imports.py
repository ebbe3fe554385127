"""Exports of Bitwarden and 1Password, as secrets to store. Hostile until proven plain (threat V21).

Caps on size, entries and text; keys that are there twice are refused; a cell that a spreadsheet would take for a
formula is text like any other. Errors name an item by its number, and never what it holds.
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
import stat
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from anyio.to_thread import run_sync
from pydantic import ValidationError

from mcp_spaces.errors import InvalidInput
from mcp_spaces.vault.model import MAIN_FIELD, SECRET_CHARACTERS_MAX, SEED, Bindings, Kind

BYTES_MAX: Final = 16 << 20
ENTRIES_MAX: Final = 10_000
ARCHIVE: Final = b"PK\x03\x04"
"""How a .1pux begins, and every other ZIP. Archives are not opened on the host (threat S10)."""
SLUG_CHARACTERS: Final = 60
ORIGINS_MAX: Final = 20

BITWARDEN_COLUMNS = frozenset({"folder", "type", "name", "login_uri", "login_username", "login_password"})
ONE_PASSWORD_COLUMNS = frozenset({"title", "username", "password"})


class Format(StrEnum):
    AUTO = "auto"
    BITWARDEN_JSON = "bitwarden_json"
    BITWARDEN_CSV = "bitwarden_csv"
    ONE_PASSWORD_JSON = "1password_json"  # noqa: S105 - a name
    """The file export.data out of a .1pux archive."""
    ONE_PASSWORD_CSV = "1password_csv"  # noqa: S105 - a name


@dataclass(frozen=True, slots=True)
class Found:
    """One item as the export has it, before it has a path."""

    number: int
    folder: str
    name: str
    kind: Kind
    fields: Mapping[str, str] = field(repr=False)
    addresses: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Item:
    number: int
    path: str
    kind: Kind
    label: str
    fields: Mapping[str, str] = field(repr=False)
    bindings: Bindings


@dataclass(frozen=True, slots=True)
class Export:
    items: list[Item]
    skipped: list[str]
    """`item 3: card`: what has no place in the vault."""


async def read_export(file: Path, *, chosen: Format, prefix: str) -> Export:
    """Raises InvalidInput: not readable, too large, of no known form, or two items for one path."""
    content = await run_sync(_read, file)
    return await run_sync(lambda: parse_export(content, chosen=chosen, prefix=prefix))


def parse_export(content: bytes, *, chosen: Format, prefix: str) -> Export:
    if content.startswith(ARCHIVE):
        raise _refused("it is an archive: unzip it, and give the export.data (or the JSON, or the CSV) that is in it")
    if len(content) > BYTES_MAX:
        raise _refused(f"it has more than {BYTES_MAX >> 20} MiB")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise _refused("it is not UTF-8 text") from None
    skipped: list[str] = []
    if text.lstrip()[:1] in ("{", "["):
        found = _from_json(_json(text), chosen, skipped)
    else:
        found = _from_csv(text, chosen, skipped)
    items: list[Item] = []
    for one in found:
        items.append(_item(one, prefix))
        if len(items) > ENTRIES_MAX:
            raise _refused(f"it has more than {ENTRIES_MAX:,} items")
    return Export(_told_apart(items), skipped)


# ------------------------------------------------------------------------------------------------------- forms


def _from_json(whole: Any, chosen: Format, skipped: list[str]) -> Iterator[Found]:
    if isinstance(whole, dict) and whole.get("encrypted") is True:
        raise _refused("it is encrypted: export it again without a password, and delete the file afterwards")
    if isinstance(whole, dict) and isinstance(whole.get("items"), list) and _may_be(chosen, Format.BITWARDEN_JSON):
        return _bitwarden(whole, skipped)
    if (
        isinstance(whole, dict)
        and isinstance(whole.get("accounts"), list)
        and _may_be(chosen, Format.ONE_PASSWORD_JSON)
    ):
        return _one_password(whole, skipped)
    raise _refused("it is no Bitwarden or 1Password JSON export")


def _from_csv(text: str, chosen: Format, skipped: list[str]) -> Iterator[Found]:
    rows = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        columns = [name.strip().lower() for name in next(rows)]
    except (StopIteration, csv.Error):
        raise _refused("it is empty, or no CSV") from None
    if len(set(columns)) != len(columns):
        raise _refused("a column is there twice")
    if set(columns) >= BITWARDEN_COLUMNS and _may_be(chosen, Format.BITWARDEN_CSV):
        return _rows(rows, columns, lambda number, row: _bitwarden_row(number, row, skipped))
    if set(columns) >= ONE_PASSWORD_COLUMNS and _may_be(chosen, Format.ONE_PASSWORD_CSV):
        return _rows(rows, columns, _one_password_row)
    raise _refused("its columns are not those of a Bitwarden or 1Password export")


def _may_be(chosen: Format, form: Format) -> bool:
    return chosen in (Format.AUTO, form)


def _bitwarden(whole: Mapping[str, Any], skipped: list[str]) -> Iterator[Found]:
    folders = {_text(one, "id"): _text(one, "name") for one in _objects(whole, "folders")}
    kinds = {1: "login", 2: "note", 3: "card", 4: "identity", 5: "SSH key"}
    for number, item in enumerate(_objects(whole, "items"), 1):
        kind = item.get("type")
        name, folder = _text(item, "name"), folders.get(_text(item, "folderId"), "")
        if kind == 1:
            login = _object(item, "login")
            addresses = [_text(uri, "uri") for uri in _objects(login, "uris")]
            fields = _kept(
                username=_text(login, "username"), password=_text(login, "password"), totp=_text(login, "totp"),
                notes=_text(item, "notes"),
            )  # fmt: skip
            yield from _login(number, folder, name, fields, addresses, skipped)
        elif kind == 2:
            yield from _note(number, folder, name, _text(item, "notes"), skipped)
        else:
            skipped.append(f"item {number}: {kinds.get(kind, 'unknown') if isinstance(kind, int) else 'unknown'}")


def _one_password(whole: Mapping[str, Any], skipped: list[str]) -> Iterator[Found]:
    number = 0
    for account in _objects(whole, "accounts"):
        for vault in _objects(account, "vaults"):
            folder = _text(_object(vault, "attrs"), "name")
            for item in _objects(vault, "items"):
                number += 1
                overview, details = _object(item, "overview"), _object(item, "details")
                name, notes = _text(overview, "title"), _text(details, "notesPlain")
                login = {_text(one, "designation"): _text(one, "value") for one in _objects(details, "loginFields")}
                password = login.get("password") or _text(details, "password")
                seeds = [
                    _text(_object(one, "value"), SEED)
                    for section in _objects(details, "sections")
                    for one in _objects(section, "fields")
                    if isinstance(one.get("value"), dict)
                ]
                seed = next(filter(None, seeds), "")
                addresses = [_text(overview, "url"), *(_text(one, "url") for one in _objects(overview, "urls"))]
                fields = _kept(username=login.get("username", ""), password=password, totp=seed, notes=notes)
                if password or seed:
                    yield from _login(number, folder, name, fields, addresses, skipped)
                else:
                    yield from _note(number, folder, name, notes, skipped)


def _bitwarden_row(number: int, row: Mapping[str, str], skipped: list[str]) -> Iterator[Found]:
    folder, name, notes = row["folder"], row["name"], row.get("notes", "")
    if row["type"] == "login":
        fields = _kept(
            username=row["login_username"], password=row["login_password"], totp=row.get("login_totp", ""), notes=notes
        )
        yield from _login(number, folder, name, fields, row["login_uri"].split(","), skipped)
    elif row["type"] == "note":
        yield from _note(number, folder, name, notes, skipped)
    else:
        skipped.append(f"item {number}: unknown")


def _one_password_row(number: int, row: Mapping[str, str]) -> Iterator[Found]:
    fields = _kept(
        username=row["username"], password=row["password"], totp=row.get("otpauth", ""), notes=row.get("notes", "")
    )
    address = row.get("url") or row.get("website") or ""
    yield from _login(number, "", row["title"], fields, [address], [])


def _login(
    number: int, folder: str, name: str, fields: Mapping[str, str], addresses: Sequence[str], skipped: list[str]
) -> Iterator[Found]:
    if fields.get("password") or fields.get(SEED):
        yield Found(number, folder, name, Kind.LOGIN, fields, addresses)
    else:
        skipped.append(f"item {number}: a login without a password")


def _note(number: int, folder: str, name: str, text: str, skipped: list[str]) -> Iterator[Found]:
    if text:
        yield Found(number, folder, name, Kind.VALUE, {MAIN_FIELD[Kind.VALUE]: text})
    else:
        skipped.append(f"item {number}: empty")


# ------------------------------------------------------------------------------------------------------ pieces


def _item(found: Found, prefix: str) -> Item:
    for text in found.fields.values():
        if len(text) > SECRET_CHARACTERS_MAX:
            raise _refused(f"item {found.number} has a field of more than {SECRET_CHARACTERS_MAX:,} characters")
    folder = _slug(found.folder)
    name = _slug(found.name) or f"item-{found.number}"
    path = "/".join(part for part in (prefix, folder, name) if part)
    if path.count("/") > 7:
        raise _refused("the prefix has too many segments")
    label = "".join(char for char in found.name if char.isprintable())[:200]
    return Item(found.number, path, found.kind, label, found.fields, _bindings(found.addresses))


def _told_apart(items: list[Item]) -> list[Item]:
    """Two accounts at one site are told apart by their user names. Raises InvalidInput where that does not help."""
    by_path: dict[str, list[Item]] = {}
    for item in items:
        by_path.setdefault(item.path, []).append(item)
    told = [item if len(same) == 1 else _with_user(item) for item in items if (same := by_path[item.path])]
    first: dict[str, int] = {}
    for item in told:
        if item.path in first:
            raise _refused(f"items {first[item.path]} and {item.number} would both be {item.path}: rename one")
        first[item.path] = item.number
    return told


def _with_user(item: Item) -> Item:
    user = _slug(item.fields.get("username", ""))
    head, _, name = item.path.rpartition("/")
    longer = f"{name[: SLUG_CHARACTERS // 2]}.{user[: SLUG_CHARACTERS // 2]}" if user else name
    path = f"{head}/{longer}" if head else longer
    return Item(item.number, path, item.kind, item.label, item.fields, item.bindings)


def _slug(text: str) -> str:
    """A path segment out of a name; empty where nothing of it is left."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain[:300]).strip("-")[:SLUG_CHARACTERS].strip("-")


def _bindings(addresses: Sequence[str]) -> Bindings:
    """The exact https origins among them; what is none is left out, since it could only widen."""
    origins: list[str] = []
    for address in addresses[:200]:
        origin = _origin(address.strip())
        if origin is not None and origin not in origins:
            origins.append(origin)
    return Bindings(origins=tuple(origins[:ORIGINS_MAX]))


def _origin(address: str) -> str | None:
    try:
        parts = urlsplit(address)
        port = parts.port
        host = parts.hostname or ""
        origin = f"https://{host}" + (f":{port}" if port not in (None, 443) else "")
        if parts.scheme != "https" or "@" in parts.netloc:
            return None
        Bindings(origins=(origin,))
    except (ValueError, ValidationError):
        return None
    return origin


def _kept(**fields: str) -> dict[str, str]:
    return {name: text for name, text in fields.items() if text}


def _rows(
    rows: Iterator[list[str]], columns: Sequence[str], read: Callable[[int, Mapping[str, str]], Iterator[Found]]
) -> Iterator[Found]:
    number = 0
    try:
        for row in rows:
            if not row:
                continue
            number += 1
            if number > ENTRIES_MAX:
                raise _refused(f"it has more than {ENTRIES_MAX:,} items")
            if len(row) != len(columns):
                raise _refused(f"item {number} has {len(row)} cells instead of {len(columns)}")
            yield from read(number, dict(zip(columns, row, strict=True)))
    except csv.Error:
        raise _refused(f"item {number + 1} is no CSV row") from None


def _json(text: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_without_twins)
    except (ValueError, RecursionError):
        raise _refused("it is no JSON, or a key is there twice") from None


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError
    return found


def _objects(holder: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    found = holder.get(name)
    if found is None:
        return []
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise _refused(f"{name} is not a list of objects")
    if len(found) > ENTRIES_MAX:
        raise _refused(f"{name} has more than {ENTRIES_MAX:,} members")
    return found


def _object(holder: Mapping[str, Any], name: str) -> dict[str, Any]:
    found = holder.get(name)
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise _refused(f"{name} is not an object")
    return found


def _text(holder: Mapping[str, Any], name: str) -> str:
    found = holder.get(name)
    if found is None:
        return ""
    if not isinstance(found, str):
        raise _refused(f"{name} is not a text")
    return found


def _read(file: Path) -> bytes:
    if not file.is_absolute():
        raise InvalidInput("The file's path has to be absolute.", hint="The daemon reads it, on its machine.")
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise _refused("it is not a plain file")
        with os.fdopen(descriptor, "rb") as opened:
            return opened.read(BYTES_MAX + 1)
    except (OSError, ValueError):
        raise _refused("it cannot be read") from None


def _refused(why: str) -> InvalidInput:
    return InvalidInput(f"The export cannot be imported: {why}.", hint="Nothing was stored.")
