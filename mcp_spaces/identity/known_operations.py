"""Patterns of operations that a key or a grant is bound to: each has to fit something."""

from __future__ import annotations

from collections.abc import Iterable

from mcp_spaces.core.context import Context
from mcp_spaces.core.patterns import operation_covers
from mcp_spaces.core.pipeline import Pipeline
from mcp_spaces.errors import InvalidInput


def check_patterns(context: Context, patterns: Iterable[str]) -> None:
    """Whoever misspells an operation would learn it from an agent that may do nothing. Raises InvalidInput."""
    known = context.use(Pipeline).operations
    for pattern in patterns:
        if not any(operation_covers(pattern, one) for one in known):
            raise InvalidInput(
                f"No operation fits {pattern!r}.", hint="docs/reference/README.md lists every operation."
            )
