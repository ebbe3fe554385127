"""What an export holds, taken out of its JSON or CSV: nothing of it is believed before it was looked at (threat V21).

All functions raise InvalidInput for what is of another kind, there twice, or too much. What is absent is empty.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeVar

from mcp_spaces.errors import InvalidInput

ENTRIES_MAX: Final = 10_000

T = TypeVar("T")


def refused(why: str) -> InvalidInput:
    return InvalidInput(f"The export cannot be imported: {why}.", hint="Nothing was stored.")


def json_of(text: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_without_twins)
    except (ValueError, RecursionError):
        raise refused("it is no JSON, or a key is there twice") from None


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError
    return found


def rows_of(
    rows: Iterator[list[str]], columns: Sequence[str], read: Callable[[int, Mapping[str, str]], Iterator[T]]
) -> Iterator[T]:
    number = 0
    try:
        for row in rows:
            if not row:
                continue
            number += 1
            if number > ENTRIES_MAX:
                raise refused(f"it has more than {ENTRIES_MAX:,} items")
            if len(row) != len(columns):
                raise refused(f"item {number} has {len(row)} cells instead of {len(columns)}")
            yield from read(number, dict(zip(columns, row, strict=True)))
    except csv.Error:
        raise refused(f"item {number + 1} is no CSV row") from None


def objects_in(holder: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    found = holder.get(name)
    if found is None:
        return []
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise refused(f"{name} is not a list of objects")
    if len(found) > ENTRIES_MAX:
        raise refused(f"{name} has more than {ENTRIES_MAX:,} members")
    return found


def object_in(holder: Mapping[str, Any], name: str) -> dict[str, Any]:
    found = holder.get(name)
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise refused(f"{name} is not an object")
    return found


def text_in(holder: Mapping[str, Any], name: str) -> str:
    found = holder.get(name)
    if found is None:
        return ""
    if not isinstance(found, str):
        raise refused(f"{name} is not a text")
    return found
