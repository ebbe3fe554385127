"""What a page shows, as an outline with refs: one round trip a frame, from Playwright's isolated world."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from pydantic import JsonValue

from mcp_spaces.browser.pages.failures import HANGS, in_time, translated
from mcp_spaces.browser.pages.page import URL_MAX, OpenPage, SeenFrame, without_query
from mcp_spaces.browser.pages.page_script import command, element
from mcp_spaces.errors import InvalidInput, NotFound, TimedOut

if TYPE_CHECKING:
    from playwright.async_api import Frame, Locator

READ_S = 5.0
OUTLINE_S = 20.0
"""With all of its frames."""
DEPTH_MAX = 3
LOOKED_FOR_MAX = 48
"""Frames of one document: each costs two round trips before it is known."""
FRAMES_MAX = 12
"""Frames of one page that are read; of an endless nesting the rest is left out."""
FRAMES_SHARE = 4
"""One part in so many of the characters asked for is the frames', however long the document around them is."""
OUTLINE_MAX = 40_000
"""Characters. The page script ends with the line that goes over what was asked for: nothing is cut in a line, where
half a secret would not be known as one."""
REF = re.compile(r"(?:f(\d{1,6}))?(e\d{1,9})\Z")
PAGE = "@ page"
"""The place of what has changed in a document and in no part of it."""
Mode = Literal["full", "diff", "same"]


@dataclass(frozen=True, slots=True)
class Outline:
    """`mode` says what it is: the whole, what changed since the last one of this document, or that nothing did."""

    text: str
    mode: Mode
    title: str
    next_line: int | None


async def read(frame: Frame, name: str, /, **arguments: JsonValue) -> dict[str, Any]:
    """A command of the page script; the answer is the page's word, and untrusted. Raises SpacesError."""
    try:
        with translated("read the page"):
            answer = await frame.text_content(command(name, **arguments), timeout=READ_S * 1000)
    except TimedOut as problem:
        raise TimedOut(problem.message, hint=HANGS) from None
    return dict(json.loads(answer or "{}"))


async def outline(
    opened: OpenPage,
    *,
    mode: Literal["full", "diff"] = "full",
    interactive_only: bool = False,
    max_characters: int = 12_000,
    from_line: int = 1,
    root: str | None = None,
) -> Outline:
    """Raises NotFound for a root that is gone."""
    number, ref = 0, None
    if root is not None:
        number, ref = parsed(root)
    seen = opened.seen.get(number)
    frame = opened.page.main_frame if not number or seen is None else seen.frame
    with told_while_loading(opened), in_time("read the page", OUTLINE_S):
        answer = await _outline(
            opened,
            number,
            frame,
            mode=mode,
            interactive_only=interactive_only,
            max_characters=max_characters,
            from_line=from_line,
            root=ref,
            depth=0,
        )
    if "missing" in answer:
        raise gone(root or "")
    return Outline(
        text=str(answer["outline"])[:OUTLINE_MAX],
        mode=answer["mode"],
        title=str(answer.get("title", ""))[:200],
        next_line=answer.get("next_line"),
    )


@contextmanager
def told_while_loading(opened: OpenPage) -> Iterator[None]:
    """Around a look at the page that may take too long. Raises TimedOut."""
    try:
        yield
    except TimedOut:
        refuse_while_loading(opened)
        raise


def refuse_while_loading(opened: OpenPage) -> None:
    """Raises TimedOut saying what is being loaded, where something is: a page cannot be read meanwhile."""
    heading = opened.heading
    if heading is not None:
        url = opened.shown(without_query(heading.url), URL_MAX)
        raise TimedOut(
            f"{opened.id} is still loading {url}.",
            hint="Try again in a while, or go elsewhere: browser_navigate. What led there is done: do not repeat it.",
        )


async def _outline(opened: OpenPage, number: int, frame: Frame, *, depth: int, **wanted: Any) -> dict[str, Any]:
    prefix = f"f{number}" if number else ""
    answer = await read(frame, "snapshot", prefix=prefix, **wanted)
    opened.seen[number] = SeenFrame(frame, str(answer.get("document", "")))
    frames = answer.get("frames") or []
    if not frames:
        return answer
    lines, below, left_out, no_room = str(answer["outline"]).splitlines(), [], len(frames[LOOKED_FOR_MAX:]), 0
    room = max(wanted["max_characters"] - len(str(answer["outline"])), wanted["max_characters"] // FRAMES_SHARE)
    for told in frames[:LOOKED_FOR_MAX]:
        if room <= 0:
            no_room += 1
            continue
        child = await _child(opened, number, frame, str(told["ref"])) if depth < DEPTH_MAX else None
        if child is None:
            left_out += 1
            continue
        inner_number, inner_frame = child
        # A frame that was asked for is gone through line by line; one beside other things gets what room is left.
        alone = told["ref"] == wanted["root"]
        inside = wanted | {"root": None, "part": f"{prefix}{told['ref']}"}
        inside |= {} if alone else {"max_characters": room, "from_line": 1}
        inner = await _outline(opened, inner_number, inner_frame, depth=depth + 1, **inside)
        if alone:
            return inner | {"title": answer.get("title", "")}
        if inner.get("mode") == "same" or not inner.get("outline"):
            continue
        room -= len(str(inner["outline"]))
        below.append((int(told["line"]), inner_number, str(inner["outline"]).splitlines()))
        if answer["mode"] == "same":
            answer["mode"] = "diff"
    for line, inner_number, texts in reversed(below):
        if answer["mode"] == "full" and line <= len(lines):
            indent = " " * (len(lines[line - 1]) - len(lines[line - 1].lstrip()) + 2)
            lines[line:line] = [indent + text for text in texts]
        else:
            # What has changed in a frame is told by its own places, and its page is the frame.
            here = f"@ frame f{inner_number}"
            lines += [here if text == PAGE else text for text in texts] if texts[0].startswith("@ ") else [here, *texts]
    if left_out and answer["mode"] == "full":
        lines.append(
            f"({left_out} of {len(frames)} frames left out: gone, or beyond {FRAMES_MAX} frames, {DEPTH_MAX} deep)"
        )
    if no_room and answer["mode"] == "full":
        lines.append(f"({no_room} of {len(frames)} frames have no room here: take one with its iframe's ref=REF)")
    return {**answer, "outline": "\n".join(lines)}


async def _child(opened: OpenPage, number: int, frame: Frame, ref: str) -> tuple[int, Frame] | None:
    """The frame of an iframe element, with the number that it keeps as long as it is the same one. None: it is gone, or
    one too many."""
    with translated("read a frame"):
        seen = opened.seen[number]
        handle = await frame.query_selector(element(ref, document=seen.document))
        inner = None if handle is None else await handle.content_frame()
    if inner is None:
        return None
    for known, one in opened.seen.items():
        if one.frame is inner:
            return known, inner
    newest = max(opened.seen)
    for known, one in list(opened.seen.items()):
        # The newest number stays taken: a ref of a frame that is gone never becomes another frame's.
        if known not in (0, newest) and one.frame.is_detached():
            del opened.seen[known]
    if sum(not one.frame.is_detached() for one in opened.seen.values()) > FRAMES_MAX:
        return None
    return newest + 1, inner


def parsed(ref: str) -> tuple[int, str]:
    """Frame number (0: the main one) and the ref inside. Raises InvalidInput."""
    found = REF.match(ref)
    if found is None:
        raise InvalidInput(f"{ref[:40]!r} is no ref.", hint="Refs look like e12 or f1e12: take them from a snapshot.")
    return int(found[1] or 0), found[2]


def within(opened: OpenPage, ref: str) -> tuple[SeenFrame, str]:
    """The frame that a ref belongs to, and the ref inside. Raises NotFound, InvalidInput."""
    number, inner = parsed(ref)
    seen = opened.seen.get(number)
    if seen is None or seen.frame.is_detached():
        raise gone(ref)
    return seen, inner


def located(opened: OpenPage, ref: str) -> Locator:
    """The element that a snapshot of this very document named. Raises NotFound, InvalidInput."""
    seen, inner = within(opened, ref)
    return seen.frame.locator(element(inner, document=seen.document))


async def present(opened: OpenPage, ref: str) -> Locator:
    """As `located`, of what is still there: Playwright waits for what is gone until its time is over."""
    await described(opened, ref)
    return located(opened, ref)


async def described(opened: OpenPage, ref: str) -> dict[str, Any]:
    """What the element is: role, name, secret, url. Raises NotFound when it is there no more."""
    seen, inner = within(opened, ref)
    told = await read(seen.frame, "describe", ref=inner)
    if not told.get("here") or told.get("document") != seen.document:
        raise gone(ref)
    return told


def gone(ref: str) -> NotFound:
    return NotFound(f"No element {ref} on this page.", hint="The page has changed: take a new snapshot.")
