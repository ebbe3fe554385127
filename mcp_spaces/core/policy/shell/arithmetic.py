"""The variables that arithmetic sets: `((PATH = 5))`, `let IFS+=1`, `a[PATH++]=x`."""

from __future__ import annotations

import re
from collections.abc import Iterator

# `\b` and the bound keep the search linear: a caller chooses the text.
_SETS = re.compile(
    r"\b([A-Za-z_]\w*)(?:\[[^\[\]]{0,80}\])?\s{0,80}(?:\+\+|--|(?:<<|>>|[-+*/%&^|])?=(?!=))|(?:\+\+|--)\s{0,80}([A-Za-z_]\w*)",
    re.ASCII,
)


def variables_set(text: str) -> Iterator[str]:
    """Of an expression, each time that it sets one."""
    for found in _SETS.finditer(text):
        yield found[1] or found[2]
