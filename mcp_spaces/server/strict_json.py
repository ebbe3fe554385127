"""JSON without ambiguity: what two parsers could read differently is refused at our edge.

Refused: duplicate names, NaN and infinities, numbers that overflow to them, lone surrogates, nesting deeper than
the parser goes, and anything that is not UTF-8. Python's own parser takes the last of two duplicates, another the
first: between a proxy that decides and a server that acts, that is a hole.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Sequence
from typing import NoReturn

_ID = rb'"id"\s*:\s*(-?\d{1,18}|"[^"\\]{1,200}")\s*'
ID_FIRST = re.compile(rb'\s*\{\s*(?:"(?:jsonrpc|method)"\s*:\s*"[^"\\]*"\s*,\s*)*' + _ID + b",")
ID_LAST = re.compile(_ID + rb"\}\s*$")
"""Only a member of the outermost object stands before its first nested one, or before the last brace."""
ESCAPED_SURROGATE = re.compile(rb"\\u[dD][89abcdefABCDEF]")


class AmbiguousJsonError(ValueError):
    """What is wrong, in words that repeat nothing of the input but a member's name."""


def parse(text: bytes) -> object:
    """The value of one JSON text.

    Raises:
        AmbiguousJsonError: it is not JSON, or not unambiguous.
    """
    try:
        value = _DECODER.decode(text.decode("utf-8"))
    except UnicodeDecodeError:
        raise AmbiguousJsonError("not UTF-8") from None
    except RecursionError:
        raise AmbiguousJsonError("nested too deeply") from None
    except AmbiguousJsonError:
        raise
    except ValueError as error:
        raise AmbiguousJsonError(
            error.msg if isinstance(error, json.JSONDecodeError) else "a number too long"
        ) from None
    if ESCAPED_SURROGATE.search(text):
        _refuse_lone_surrogates(value)
    return value


def request_id(text: bytes) -> int | str | None:
    """The id of the request that `parse` refused, so that its sender can be answered; None where it is in doubt."""
    objects: list[list[tuple[str, object]]] = []

    def remember(pairs: list[tuple[str, object]]) -> dict[str, object]:
        objects.append(pairs)
        return dict(pairs)

    try:
        value = json.JSONDecoder(object_pairs_hook=remember).decode(text.decode("utf-8"))
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict):
        return None
    # The outermost object is finished last.
    ids = [member for name, member in objects[-1] if name == "id"]
    if len(ids) != 1:
        return None
    match ids[0]:
        case bool():
            return None
        case int() as number:
            return number
        case str() as name if name.isascii():
            return name
        case _:
            return None


def request_id_by_ends(head: bytes, tail: bytes) -> int | str | None:
    """The id of a request of which only the ends are known: clients write it first, or last. None where neither."""
    found = ID_FIRST.match(head) or ID_LAST.search(tail)
    return None if found is None else request_id(b'{"id":' + found[1] + b"}")


def _unique(pairs: Sequence[tuple[str, object]]) -> dict[str, object]:
    value = dict(pairs)
    if len(value) != len(pairs):
        # Counted in one go: to count each by itself would take hours for a large object.
        times = Counter(name for name, _ in pairs)
        twice = next(name for name in times if times[name] > 1)
        raise AmbiguousJsonError(f"the name {twice[:64]!a} appears twice in one object")
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise AmbiguousJsonError(f"{name} is not a JSON number")


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise AmbiguousJsonError("a number too large")
    return number


def _refuse_lone_surrogates(value: object) -> None:
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        raise AmbiguousJsonError("half of a surrogate pair") from None


_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_refuse_constant, parse_float=_finite)
