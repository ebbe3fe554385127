"""The forms of exports: Bitwarden's and 1Password's, each as JSON and as CSV.

`skipped` is told of each item that has no place in the vault. Raises InvalidInput where an export breaks its form.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mcp_spaces.vault.import_text import ENTRIES_MAX, object_in, objects_in, refused, text_in
from mcp_spaces.vault.model import MAIN_FIELD, SEED, Kind

BITWARDEN_COLUMNS = frozenset({"folder", "type", "name", "login_uri", "login_username", "login_password"})
ONE_PASSWORD_COLUMNS = frozenset({"title", "username", "password"})


@dataclass(frozen=True, slots=True)
class Found:
    """One item as the export has it, before it has a path."""

    number: int
    folder: str
    name: str
    kind: Kind
    fields: Mapping[str, str] = field(repr=False)
    addresses: Sequence[str] = ()


def bitwarden(whole: Mapping[str, Any], skipped: list[str]) -> Iterator[Found]:
    folders = {text_in(one, "id"): text_in(one, "name") for one in objects_in(whole, "folders")}
    kinds = {1: "login", 2: "note", 3: "card", 4: "identity", 5: "SSH key"}
    for number, item in enumerate(objects_in(whole, "items"), 1):
        kind = item.get("type")
        name, folder = text_in(item, "name"), folders.get(text_in(item, "folderId"), "")
        if kind == 1:
            login = object_in(item, "login")
            addresses = [text_in(uri, "uri") for uri in objects_in(login, "uris")]
            fields = _kept(
                username=text_in(login, "username"), password=text_in(login, "password"), totp=text_in(login, "totp"),
                notes=text_in(item, "notes"),
            )  # fmt: skip
            yield from _login(number, folder, name, fields, addresses, skipped)
        elif kind == 2:
            yield from _note(number, folder, name, text_in(item, "notes"), skipped)
        else:
            skipped.append(f"item {number}: {kinds.get(kind, 'unknown') if isinstance(kind, int) else 'unknown'}")


def one_password(whole: Mapping[str, Any], skipped: list[str]) -> Iterator[Found]:
    number = 0
    for account in objects_in(whole, "accounts"):
        for vault in objects_in(account, "vaults"):
            folder = text_in(object_in(vault, "attrs"), "name")
            for item in objects_in(vault, "items"):
                number += 1
                if number > ENTRIES_MAX:
                    raise refused(f"it has more than {ENTRIES_MAX:,} items")
                overview, details = object_in(item, "overview"), object_in(item, "details")
                name, notes = text_in(overview, "title"), text_in(details, "notesPlain")
                login = {
                    text_in(one, "designation"): text_in(one, "value") for one in objects_in(details, "loginFields")
                }
                password = login.get("password") or text_in(details, "password")
                seeds = [
                    text_in(object_in(one, "value"), SEED)
                    for section in objects_in(details, "sections")
                    for one in objects_in(section, "fields")
                    if isinstance(one.get("value"), dict)
                ]
                seed = next(filter(None, seeds), "")
                addresses = [text_in(overview, "url"), *(text_in(one, "url") for one in objects_in(overview, "urls"))]
                fields = _kept(username=login.get("username", ""), password=password, totp=seed, notes=notes)
                if password or seed:
                    yield from _login(number, folder, name, fields, addresses, skipped)
                else:
                    yield from _note(number, folder, name, notes, skipped)


def bitwarden_row(number: int, row: Mapping[str, str], skipped: list[str]) -> Iterator[Found]:
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


def one_password_row(number: int, row: Mapping[str, str], skipped: list[str]) -> Iterator[Found]:
    fields = _kept(
        username=row["username"], password=row["password"], totp=row.get("otpauth", ""), notes=row.get("notes", "")
    )
    address = row.get("url") or row.get("website") or ""
    yield from _login(number, "", row["title"], fields, [address], skipped)


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


def _kept(**fields: str) -> dict[str, str]:
    return {name: text for name, text in fields.items() if text}
