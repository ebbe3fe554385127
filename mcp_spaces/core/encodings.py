"""The forms in which a secret travels once it is out, as bytes and as text.

    of each of UTF-8, latin-1 and cp1252:  as it is · hex · base64 at three alignments · URL · quoted bytes
    of UTF-16:                             as it is · base64 at three alignments
    of the text:                           JSON · HTML · what is left of it where bytes were read as UTF-8

Base64 and hex are known with the line ends of the usual tools too, where the secret begins the first line. What is
wrapped in the middle of something else is not found, nor is what code makes up by itself.
"""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Callable, Iterator
from html.entities import codepoint2name
from urllib.parse import quote_from_bytes

MINIMUM_LENGTH = 6
"""Shorter values would eat ordinary words (threat V22)."""
PIECE_BYTES = 4096
"""A longer form is looked for in pieces, so that a stream never holds back more than this."""

BASE64_COLUMNS = (76, 64)
"""As base64(1) and mail break lines, and as PEM and openssl do."""
HEX_COLUMNS = 60
"""As `xxd -p` does."""

_ONE_BYTE = ("utf-8", "latin-1", "cp1252")
_URL_SAFE = ("", "/", "-._~!*'()", "-._~!*'();/?:@&=+$,#")
"""What `quote(safe="")`, `quote`, and a browser's `encodeURIComponent` and `encodeURI` leave as it is."""
_DIGITS = re.compile(r"(?<=%)[0-9A-Fa-f]{2}|(?<=\\u)[0-9A-Fa-f]{4}|(?<=&#x)[0-9A-Fa-f]+(?=;)")
"""Of an escape: they are written in either case."""


def encodings(value: str) -> set[str]:
    """The forms that can stand in a text."""
    return {form.decode("utf-8", "surrogatepass") for form in forms(value) if is_text(form)}


def forms(value: str) -> frozenset[bytes]:
    """All forms of `value`, none shorter than MINIMUM_LENGTH bytes or longer than PIECE_BYTES."""
    # A shell's $(…) drops the last line end, a terminal adds to each.
    # Headers are bytes, and many servers read them as latin-1 before they say them again in UTF-8.
    ways = {value, value.strip(), value.replace("\n", "\r\n"), _raw(value).decode("latin-1")}
    long_enough = [way for way in ways if len(way) >= MINIMUM_LENGTH]
    found = {form for way in long_enough for form in _all_forms(way) if len(form) >= MINIMUM_LENGTH}
    return frozenset(piece for form in found for piece in _pieces(form))


def is_text(form: bytes) -> bool:
    try:
        form.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return False
    return True


def _all_forms(value: str) -> Iterator[bytes]:
    for text in _texts(value):
        yield _raw(text)
    for name in _ONE_BYTE:
        if (raw := _encoded(value, name)) is None:
            continue
        yield from (raw, _misread(raw))
        yield from (raw.hex().encode(), raw.hex().upper().encode(), repr(raw)[2:-1].encode())
        yield from _base64(raw)
        yield from _in_lines(raw.hex().encode(), HEX_COLUMNS)
        yield from _in_lines(_core(base64.b64encode(raw), 0, len(raw)), *BASE64_COLUMNS)
        for text in _url(raw):
            yield text.encode()
    for name in ("utf-16-le", "utf-16-be"):
        if (raw := _encoded(value, name)) is not None:
            yield from (raw, _misread(raw))
            yield from _base64(raw)


def _texts(value: str) -> Iterator[str]:
    yield value
    for ascii_only in (True, False):
        written = json.dumps(value, ensure_ascii=ascii_only)[1:-1]
        # As PHP writes it, and as those do who put JSON into HTML.
        for_html = written.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")
        for text in (written, written.replace("/", "\\/"), for_html, for_html.replace("'", "\\u0027")):
            yield text
            yield _upper(text)
    plain = value.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    for quoted in (html.escape(value), plain, plain.replace('"', "&quot;"),
                   plain.replace('"', "&#34;").replace("'", "&#39;"), plain.replace('"', "&quot;").replace("'", "&#39;"),
                   plain.replace('"', "&quot;").replace("'", "&apos;")):  # fmt: skip
        yield quoted
        yield _beyond_ascii(quoted, _named)
        yield _beyond_ascii(quoted, lambda code: f"&#{code};")
        hexadecimal = _beyond_ascii(quoted, lambda code: f"&#x{code:x};")
        yield from (hexadecimal, _upper(hexadecimal))
    yield "".join(f"&#{ord(char)};" for char in value)
    hexadecimal = "".join(f"&#x{ord(char):x};" for char in value)
    yield from (hexadecimal, _upper(hexadecimal))


def _url(raw: bytes) -> Iterator[str]:
    for safe in _URL_SAFE:
        quoted = quote_from_bytes(raw, safe=safe)
        for text in (quoted, quoted.replace("%20", "+")):
            yield text
            yield _DIGITS.sub(lambda digits: digits[0].lower(), text)


def _base64(raw: bytes) -> Iterator[bytes]:
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        for shift in range(3):
            yield _core(encode(b"\0" * shift + raw), shift, len(raw))


def _core(text: bytes, shift: int, count: int) -> bytes:
    """Of `count` bytes after `shift` others: the first and last characters depend on what stands beside them."""
    return text[(shift * 8 + 5) // 6 : (shift + count) * 8 // 6]


def _in_lines(text: bytes, *columns: int) -> Iterator[bytes]:
    for width in columns:
        lines = [text[at : at + width] for at in range(0, len(text), width)]
        yield from (b"\n".join(lines), b"\r\n".join(lines))


def _upper(text: str) -> str:
    """The same with upper-case digits in its escapes."""
    return _DIGITS.sub(lambda digits: digits[0].upper(), text)


def _beyond_ascii(text: str, written: Callable[[int], str]) -> str:
    return "".join(char if char.isascii() else written(ord(char)) for char in text)


def _named(code: int) -> str:
    return f"&{codepoint2name[code]};" if code in codepoint2name else f"&#{code};"


def _misread(raw: bytes) -> bytes:
    """What of `raw` a text holds that was read as UTF-8; empty where that is too little to know it by."""
    text = raw.decode("utf-8", "replace")
    return text.encode() if sum(char.isascii() and char.isprintable() for char in text) >= MINIMUM_LENGTH else b""


def _encoded(value: str, name: str) -> bytes | None:
    if name == "utf-8":
        return _raw(value)
    try:
        return value.encode(name)
    except UnicodeEncodeError:
        return None


def _raw(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _pieces(form: bytes) -> Iterator[bytes]:
    """Each overlaps the next by a byte, so that what is found of them is found as one."""
    for start in range(0, max(len(form) - PIECE_BYTES, 0), PIECE_BYTES - 1):
        yield form[start : start + PIECE_BYTES]
    yield form[-PIECE_BYTES:]
