"""Everything that can be done with browser runtimes."""

from __future__ import annotations

from mcp_spaces.browser import (
    entering,
    files,
    handling,
    launching,
    leasing,
    looking,
    paging,
    record_operations,
    runtime_operations,
    signing_in,
)
from mcp_spaces.browser.steps import execute
from mcp_spaces.core.operation import AnyOperation

OPERATIONS: tuple[AnyOperation, ...] = (
    *launching.OPERATIONS,
    *runtime_operations.OPERATIONS,
    *paging.OPERATIONS,
    *looking.OPERATIONS,
    *handling.OPERATIONS,
    *entering.OPERATIONS,
    *files.OPERATIONS,
    *execute.OPERATIONS,
    *record_operations.OPERATIONS,
    *leasing.OPERATIONS,
    *signing_in.OPERATIONS,
)
