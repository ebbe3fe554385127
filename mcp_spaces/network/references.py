"""Where a request names secrets: whole references in header values, plainly or inside of Basic credentials.

Anywhere else a reference is refused, since it would not be replaced and would go out as it is: in the address, in the
body, or half written.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import unquote

from mcp_spaces.network.head import Fields, RequestHead
from mcp_spaces.network.model import Reason, Refused
from mcp_spaces.vault.model import REFERENCE, Reference

BEGINS = "{{vault:"
MAX_REFERENCES = 8
"""In one request."""
LONGEST = 600
"""Characters; a path has at most 512, a field 20."""
MAX_VALUE = 16 * 1024
"""Bytes of a header value with its secrets in it."""
_BASIC = re.compile(r"(basic +)([A-Za-z0-9+/]+={0,2})", re.IGNORECASE)
_IN_BODY = re.compile(REFERENCE.pattern.encode())


@dataclass(frozen=True, slots=True)
class Place:
    """A header field that names secrets. `text` is its value, decoded where the credentials are Basic."""

    at: int
    header: str
    text: str
    references: tuple[Reference, ...]
    scheme: str = ""
    """`Basic `, as it was written, where the value is base64."""

    def filled(self, secrets: Mapping[Reference, str]) -> str:
        """The value with its secrets, as Latin-1 (the bytes are UTF-8). Raises Refused where it is no header's value."""
        text = REFERENCE.sub(lambda found: _as_latin(secrets[Reference(found[1], found[2])]), self.text)
        if self.scheme:
            text = self.scheme + base64.b64encode(text.encode("latin-1")).decode()
        if len(text) > MAX_VALUE or any(one < " " or one == "\x7f" for one in text):
            names = ", ".join(one.path for one in self.references)
            raise Refused(Reason.UNFIT, f"{names} does not fit into a header", rule="vault.header")
        return text


def places_in(head: RequestHead, path: str) -> tuple[Place, ...]:
    """Raises Refused for a reference that stands where none is replaced, or that is none."""
    if BEGINS in unquote(path):
        raise misplaced("in the address")
    found = [place for at, (name, value) in enumerate(head.fields) if (place := _place(at, name, value))]
    if sum(len(place.references) for place in found) > MAX_REFERENCES:
        raise Refused(Reason.MISPLACED, f"more than {MAX_REFERENCES} secrets in a request", rule="vault.header")
    return tuple(found)


def _place(at: int, name: str, value: str) -> Place | None:
    text, scheme = value, ""
    basic = _BASIC.fullmatch(value)
    if basic is not None:
        text, scheme = _decoded(basic[2]), basic[1]
    if BEGINS not in text:
        return None
    references = tuple(Reference(one[1], one[2]) for one in REFERENCE.finditer(text))
    if BEGINS in REFERENCE.sub("", text):
        raise Refused(Reason.MISPLACED, "that is no reference to a secret", rule="vault.reference", status=400)
    return Place(at, name.lower(), text, references, scheme)


def _decoded(credentials: str) -> str:
    try:
        return base64.b64decode(credentials, validate=True).decode("latin-1")
    except binascii.Error:
        return ""


def _as_latin(value: str) -> str:
    return value.encode("utf-8", "surrogatepass").decode("latin-1")


def fields_with(fields: Fields, values: Mapping[int, str]) -> Fields:
    return [(name, values.get(at, value)) for at, (name, value) in enumerate(fields)]


def misplaced(where: str) -> Refused:
    return Refused(
        Reason.MISPLACED,
        f"a secret is named {where}, where none is put in: name it in a header",
        rule="vault.header",
    )


class BodyWatch:
    """Finds references in a body that goes by in pieces."""

    def __init__(self) -> None:
        self._tail = b""

    def see(self, piece: bytes) -> None:
        """Before it is sent. Raises Refused."""
        window = self._tail + piece
        if BEGINS.encode() in window and _IN_BODY.search(window):
            raise misplaced("in the body")
        self._tail = window[-LONGEST:]
