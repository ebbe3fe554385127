"""Globs as expressions of `re` in which nothing is tried again, so that no pattern and no name take long.

Where an image cannot run this, the daemon matches by `sandbox/globs.py`; a test holds the two together.
"""

from __future__ import annotations

from mcp_spaces.sandbox.agent.paths import Refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


def glob_matcher(pattern: bytes) -> Callable[[bytes], object]:
    """`*`, `?` and `[…]` stay within a name, `**` as a whole name crosses folders. Raises Refused.

    What has matched as early as it could is never tried again: no pattern and no name take long."""
    import re

    parts = [part for part in pattern.decode("utf-8", "surrogateescape").split("/") if part not in ("", ".")]
    steps = _Once()
    text, segment, is_crossing = "", "", False
    for index, part in enumerate(parts):
        last = index == len(parts) - 1
        if part != "**":
            segment += _name_expression(part, steps) + ("" if last else "/")
            continue
        text += steps.early("(?:[^/]+/)*?" + segment) if is_crossing else segment
        segment, is_crossing = ".*" if last else "", True
    if is_crossing and parts[-1] != "**":
        text += "(?:[^/]+/)*"
    try:
        match = re.compile("(?s:" + text + segment + ")\\Z").match
    except (re.error, OverflowError, RecursionError):
        raise Refused("pattern") from None
    return lambda path: match(path.decode("utf-8", "surrogateescape"))


class _Once:
    """Expressions that are not tried again: a group that is looked ahead for, and then taken as it is."""

    def __init__(self) -> None:
        self.count = 0

    def early(self, expression: str) -> str:
        self.count += 1
        return "(?=(?P<g%d>%s))(?P=g%d)" % (self.count, expression, self.count)


def _name_expression(part: str, steps: _Once) -> str:
    import re

    out, at, starred, piece = "", 0, False, ""
    while at < len(part):
        char = part[at]
        at += 1
        if char == "*":
            out += steps.early("[^/]*?" + piece) if starred and piece else piece
            starred, piece = True, ""
        elif char == "?":
            piece += "[^/]"
        elif char == "[" and part.find("]", at + 1) > 0:
            end = part.find("]", at + 1)
            inner, at = part[at:end], end + 1
            negated = inner[:1] in ("!", "^")
            body = inner[1:] if negated else inner
            body = body.replace("\\", "\\\\").replace("[", "\\[").replace("]", "\\]").replace("^", "\\^")
            piece += "(?!/)[" + ("^" if negated else "") + body + "]"
        else:
            piece += re.escape(char)
    return out + ("[^/]*" if starred else "") + piece
