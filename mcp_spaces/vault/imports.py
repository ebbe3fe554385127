"""Exports of Bitwarden and 1Password, as secrets to store. Hostile until proven plain (threat V21).

Caps on size, entries and text; keys that are there twice are refused; a cell that a spreadsheet would take for a
formula is text like any other. Errors name an item by its number, and never what it holds.
"""

from __future__ import annotations

import csv
import io
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from anyio.to_thread import run_sync

from mcp_spaces.errors import InvalidInput
from mcp_spaces.vault.import_forms import (
    BITWARDEN_COLUMNS,
    ONE_PASSWORD_COLUMNS,
    Found,
    bitwarden,
    bitwarden_row,
    one_password,
    one_password_row,
)
from mcp_spaces.vault.import_items import Item, item_of, told_apart
from mcp_spaces.vault.import_text import json_of, refused, rows_of

BYTES_MAX: Final = 16 << 20
ARCHIVE: Final = b"PK\x03\x04"
"""How a .1pux begins, and every other ZIP. Archives are not opened on the host (threat S10)."""


class Format(StrEnum):
    AUTO = "auto"
    BITWARDEN_JSON = "bitwarden_json"
    BITWARDEN_CSV = "bitwarden_csv"
    ONE_PASSWORD_JSON = "1password_json"  # noqa: S105 - a name
    """The file export.data out of a .1pux archive."""
    ONE_PASSWORD_CSV = "1password_csv"  # noqa: S105 - a name


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
        raise refused("it is an archive: unzip it, and give the export.data (or the JSON, or the CSV) that is in it")
    if len(content) > BYTES_MAX:
        raise refused(f"it has more than {BYTES_MAX >> 20} MiB")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise refused("it is not UTF-8 text") from None
    skipped: list[str] = []
    if text.lstrip()[:1] in ("{", "["):
        found = _from_json(json_of(text), chosen, skipped)
    else:
        found = _from_csv(text, chosen, skipped)
    items = [item_of(one, prefix) for one in found]
    return Export(told_apart(items), skipped)


def _from_json(whole: Any, chosen: Format, skipped: list[str]) -> Iterator[Found]:
    if isinstance(whole, dict) and whole.get("encrypted") is True:
        raise refused("it is encrypted: export it again without a password, and delete the file afterwards")
    if isinstance(whole, dict) and isinstance(whole.get("items"), list) and _may_be(chosen, Format.BITWARDEN_JSON):
        return bitwarden(whole, skipped)
    if (
        isinstance(whole, dict)
        and isinstance(whole.get("accounts"), list)
        and _may_be(chosen, Format.ONE_PASSWORD_JSON)
    ):
        return one_password(whole, skipped)
    raise refused("it is no Bitwarden or 1Password JSON export")


def _from_csv(text: str, chosen: Format, skipped: list[str]) -> Iterator[Found]:
    rows = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        columns = [name.strip().lower() for name in next(rows)]
    except (StopIteration, csv.Error):
        raise refused("it is empty, or no CSV") from None
    if len(set(columns)) != len(columns):
        raise refused("a column is there twice")
    if set(columns) >= BITWARDEN_COLUMNS and _may_be(chosen, Format.BITWARDEN_CSV):
        return rows_of(rows, columns, lambda number, row: bitwarden_row(number, row, skipped))
    if set(columns) >= ONE_PASSWORD_COLUMNS and _may_be(chosen, Format.ONE_PASSWORD_CSV):
        return rows_of(rows, columns, lambda number, row: one_password_row(number, row, skipped))
    raise refused("its columns are not those of a Bitwarden or 1Password export")


def _may_be(chosen: Format, form: Format) -> bool:
    return chosen in (Format.AUTO, form)


def _read(file: Path) -> bytes:
    if not file.is_absolute():
        raise InvalidInput("The file's path has to be absolute.", hint="The daemon reads it, on its machine.")
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise refused("it is not a plain file")
        with os.fdopen(descriptor, "rb") as opened:
            return opened.read(BYTES_MAX + 1)
    except OSError as error:
        raise refused(f"the daemon cannot read {file}: {error.strerror}") from None
    except ValueError:
        raise refused("it cannot be read") from None
