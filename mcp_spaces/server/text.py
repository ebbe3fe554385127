"""Text that a terminal or a reader may see as it is: control characters are shown, never obeyed."""

from __future__ import annotations

import json
import re

# DEL, C1, bidirectional controls, line and paragraph separators, byte order mark, tags: JSON lets them through.
_UNSEEN = "\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\U000e0000-\U000e007f"
HIDDEN_IN_JSON = re.compile(f"[{_UNSEEN}]")
HIDDEN_IN_PROSE = re.compile(f"[\x00-\x08\x0b-\x1f{_UNSEEN}\ud800-\udfff]")


def as_json(value: object) -> str:
    """Compact JSON of which each character may be shown. Parsed, it is `value` again."""
    written = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return HIDDEN_IN_JSON.sub(_json_escape, written)


def as_prose(text: str) -> str:
    """`text` with control characters other than tab and newline shown as `\\x1b` or `\\u202e`."""
    return HIDDEN_IN_PROSE.sub(lambda found: ascii(found.group())[1:-1], text)


def _json_escape(found: re.Match[str]) -> str:
    return json.dumps(found.group())[1:-1]
