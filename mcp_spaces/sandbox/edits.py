"""Edits of a text: each old text has to be there exactly once."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

import anyio.to_thread
from pydantic import BaseModel, ConfigDict, Field

from mcp_spaces.errors import InvalidInput

LINES_SEARCHED = 500
"""Lines that are compared for the hint; comparing is slow, and a hint is only a hint."""
LINE_SHOWN = 120
AT_ONCE_CHARACTERS = 1 << 20
"""What is searched in the event loop, in a millisecond; more is searched beside it, since 100 edits of 10 MiB take a
second."""


class Edit(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    old: str = Field(min_length=1)
    new: str


class NotThere(Exception):
    """The old text of edit `number` is not in `text`."""

    def __init__(self, number: int, text: str, old: str) -> None:
        self.number = number
        self.text = text
        self.old = old


async def apply_edits(text: str, edits: Sequence[Edit]) -> str:
    """All edits, in their order, each on the text that the one before left.

    Raises InvalidInput, with the number of the edit, when its old text is there never or several times.
    """
    try:
        if len(text) * len(edits) <= AT_ONCE_CHARACTERS:
            return _edited(text, edits)
        return await anyio.to_thread.run_sync(_edited, text, edits)
    except NotThere as absent:
        hint = await anyio.to_thread.run_sync(_closest, absent.text, absent.old)
        raise InvalidInput(f"Edit {absent.number}: the old text is not there.", hint=hint) from None


def _edited(text: str, edits: Sequence[Edit]) -> str:
    for number, edit in enumerate(edits, start=1):
        at = text.find(edit.old)
        if at < 0:
            raise NotThere(number, text, edit.old)
        # Not by counting: of three braces in a row, two are there twice, and only once without overlapping.
        if text.find(edit.old, at + 1) >= 0:
            raise InvalidInput(
                f"Edit {number}: the old text is there {max(2, text.count(edit.old))} times.",
                hint="Add lines around it until it is unique.",
            )
        text = text[:at] + edit.new + text[at + len(edit.old) :]
    return text


def _closest(text: str, old: str) -> str:
    unix = old.replace("\r\n", "\n")
    for ending, other in (("\r\n", unix.replace("\n", "\r\n")), ("\n", unix)):
        if other in text:
            return f"It is there with lines that end in {ending!r}: write old and new that way."
    wanted = next((line.strip() for line in old.splitlines() if line.strip()), "")[:LINE_SHOWN]
    lines = text.splitlines()
    for number, line in enumerate(lines, start=1):
        if wanted and line.strip()[:LINE_SHOWN] == wanted:
            return f"Line {number} starts alike; compare white space and the lines after it: {line[:LINE_SHOWN]!r}"
    short = [line.strip()[:LINE_SHOWN] for line in lines[:LINES_SEARCHED]]
    similar = difflib.get_close_matches(wanted, short, n=1, cutoff=0.6) if wanted else []
    if similar:
        number = short.index(similar[0]) + 1
        return f"The closest is line {number}: {lines[number - 1][:LINE_SHOWN]!r}. Read the file again."
    return "Read the file again: sandbox_read_file"
