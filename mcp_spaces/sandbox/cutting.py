"""Texts cut to what an answer holds, counted in characters as JSON writes them."""

from __future__ import annotations

import codecs
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

HEAD_SHARE = 0.25
"""Of a text that is cut in the middle: the end of a command's output says most."""

_as_json = json.JSONEncoder(ensure_ascii=False).encode


def cost(text: str) -> int:
    """Characters of `text` in JSON: a newline is two, an escape character six."""
    return len(_as_json(text)) - 2


def start_within(text: str, budget: int) -> str:
    """The longest start of `text` that costs at most `budget`."""
    return text[: _longest(lambda count: text[:count], min(len(text), budget), budget)]


def end_within(text: str, budget: int) -> str:
    count = _longest(lambda count: text[len(text) - count :], min(len(text), budget), budget)
    return text[len(text) - count :]


def ends_within(head: str, tail: str, budget: int, *, left_out: str) -> str:
    """A text of which only head and tail are shown, with a line between them that says so."""
    mark = f"\n… {left_out} …\n"
    room = max(budget - cost(mark), 0)
    start = start_within(head, int(room * HEAD_SHARE))
    return start + mark + end_within(tail, room - cost(start))


def shortened(text: str, budget: int) -> str:
    """`text` itself, or its two ends."""
    if cost(text) <= budget:
        return text
    return ends_within(text, text, budget, left_out=f"cut, {len(text):,} characters in all")


def shares(costs: Sequence[int], budget: int) -> list[int]:
    """Split `budget` so that what is small is whole and the rest is cut alike."""
    given = [0] * len(costs)
    left = budget
    for position, index in enumerate(sorted(range(len(costs)), key=lambda index: costs[index])):
        given[index] = min(costs[index], left // (len(costs) - position))
        left -= given[index]
    return given


def whole_characters(content: bytes, *, at_start: bool, at_end: bool) -> bytes:
    """`content` without the pieces of a UTF-8 character that was cut at its start or end."""
    start = 0
    while at_start and start < min(3, len(content)) and content[start] & 0xC0 == 0x80:
        start += 1
    content = content[start:]
    if not at_end:
        return content
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    decoder.decode(content[-4:])
    pending = len(decoder.getstate()[0])
    return content[: len(content) - pending]


@dataclass(frozen=True, slots=True)
class Fitting:
    """A start of some bytes, as text. `used_bytes` of them are in it."""

    text: str
    used_bytes: int


def text_within(content: bytes, budget: int, *, open_end: bool) -> Fitting:
    """The start of `content` that costs at most about `budget`, never ending inside a character.

    `open_end`: more may follow, so a character that is not complete yet is left for later.
    """
    piece = content[:budget]
    while True:
        piece = whole_characters(piece, at_start=False, at_end=open_end or len(piece) < len(content))
        text = piece.decode("utf-8", "replace")
        spent = cost(text)
        if spent <= budget:
            return Fitting(text, len(piece))
        piece = piece[: len(piece) * budget // spent]


def _longest(part: Callable[[int], str], most: int, budget: int) -> int:
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        if cost(part(middle)) <= budget:
            low = middle
        else:
            high = middle - 1
    return low
