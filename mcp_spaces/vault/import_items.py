"""Items of an export as secrets to store: each has a path of its own, and is bound to the origins that it named."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

from pydantic import ValidationError

from mcp_spaces.vault.import_forms import Found
from mcp_spaces.vault.import_text import refused
from mcp_spaces.vault.model import Bindings, Kind

SLUG_CHARACTERS: Final = 60
ORIGINS_MAX: Final = 20


@dataclass(frozen=True, slots=True)
class Item:
    number: int
    path: str
    kind: Kind
    label: str
    fields: Mapping[str, str] = field(repr=False)
    bindings: Bindings


def item_of(found: Found, prefix: str) -> Item:
    """Raises InvalidInput: a prefix with too many segments."""
    folder = _slug(found.folder)
    name = _slug(found.name) or f"item-{found.number}"
    path = "/".join(part for part in (prefix, folder, name) if part)
    if path.count("/") > 7:
        raise refused("the prefix has too many segments")
    label = "".join(char for char in found.name if char.isprintable())[:200]
    return Item(found.number, path, found.kind, label, found.fields, _bindings(found.addresses))


def told_apart(items: list[Item]) -> list[Item]:
    """Two accounts at one site are told apart by their user names. Raises InvalidInput where that does not help."""
    by_path: dict[str, list[Item]] = {}
    for item in items:
        by_path.setdefault(item.path, []).append(item)
    told = [item if len(same) == 1 else _with_user(item) for item in items if (same := by_path[item.path])]
    first: dict[str, int] = {}
    for item in told:
        if item.path in first:
            raise refused(f"items {first[item.path]} and {item.number} would both be {item.path}: rename one")
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
