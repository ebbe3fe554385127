"""The grammar of stored names: what does not fit is refused, never repaired (threats S08, S09).

Names are strings in the database and no real path is made of them, so the rules are there for people: two names
that look alike cannot stand beside each other, and none can hide what it is.
"""

from __future__ import annotations

import re
import unicodedata

from mcp_spaces.core.patterns import starts_with_segments
from mcp_spaces.errors import InvalidInput

PATH_BYTES_MAX = 1024
SEGMENT_BYTES_MAX = 255
DEPTH_MAX = 32

_NAMESPACE = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
# FRACTION SLASH, DIVISION SLASH, BIG SOLIDUS and the like: NFKC leaves them alone, eyes do not.
_LIKE_A_SLASH = frozenset("\u2044\u2215\u29f8\u29f9\u1735\u2571")


def check_namespace(namespace: str) -> str:
    """The same name. Raises InvalidInput."""
    if _NAMESPACE.fullmatch(namespace) is None:
        raise InvalidInput("That is no name of a namespace.", hint="Use `own`, or a name that context_get lists.")
    return namespace


def check_path(path: str) -> str:
    """The same path. Raises InvalidInput, saying which rule it breaks."""
    broken = broken_rule(path)
    if broken is not None:
        raise InvalidInput(
            f"The path {broken}.", hint="Paths look like reports/2024/summary.csv: relative, without `.` or `..`."
        )
    return path


def check_prefix(prefix: str) -> str:
    """As a path, or empty for everything."""
    return prefix if prefix == "" else check_path(prefix)


def broken_rule(path: str) -> str | None:
    """What is wrong with a path, to be read after `The path`; None when nothing is."""
    if not path:
        return "is empty"
    if not path.isprintable():
        return "holds a control, invisible or unassigned character"
    try:
        size = len(path.encode())
    except UnicodeEncodeError:
        return "holds half of a surrogate pair"
    if size > PATH_BYTES_MAX:
        return f"is longer than {PATH_BYTES_MAX} bytes"
    if "\\" in path:
        return "holds a backslash"
    if not unicodedata.is_normalized("NFC", path):
        return "is not in Unicode's normal form NFC"
    if any(unicodedata.category(char) in ("Cf", "Co") for char in path):
        return "holds an invisible or private character"
    if not _LIKE_A_SLASH.isdisjoint(path):
        return "holds a character that looks like a slash"
    segments = path.split("/")
    if len(segments) > DEPTH_MAX:
        return f"is deeper than {DEPTH_MAX} folders"
    if any(len(segment.encode()) > SEGMENT_BYTES_MAX for segment in segments):
        return f"has a segment longer than {SEGMENT_BYTES_MAX} bytes"
    for segment in segments:
        if (broken := _broken_segment(segment)) is not None:
            return broken
    # `‥` and `／` turn into `..` and `/` in programs that fold widths.
    folded = skeleton(path)
    if "\\" in folded or folded.count("/") != path.count("/") or any(map(_broken_segment, folded.split("/"))):
        return "holds a character that other programs read as part of the syntax of paths"
    return None


def _broken_segment(segment: str) -> str | None:
    if segment == "":
        return "has an empty segment, or a slash at an end"
    if segment in (".", ".."):
        return "holds a dot segment"
    if segment[0] == " " or segment[-1] in " .":
        return "has a segment with a space at an end or a dot at its end"
    return None


def skeleton(path: str) -> str:
    """What two names must not have in common: NFKC, case folded. Folding twice changes nothing more."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", path).casefold())


def is_within(path: str, prefix: str) -> bool:
    """Whether a path is, or is below, a prefix, by whole segments."""
    return starts_with_segments(path, prefix)
