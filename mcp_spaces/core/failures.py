"""What ended a call, as what the caller is told and the record keeps."""

from __future__ import annotations

import logging
import traceback

from mcp_spaces.core.ids import new_id
from mcp_spaces.core.journal import RunState
from mcp_spaces.core.redaction import Redactor
from mcp_spaces.errors import (
    ApprovalNeeded,
    Cancelled,
    Denied,
    Internal,
    OutOfMemory,
    RuntimeUnavailable,
    SpacesError,
    TimedOut,
)

log = logging.getLogger(__name__)

UNCERTAIN = (TimedOut, Cancelled, RuntimeUnavailable, OutOfMemory, Internal)
"""After these nobody knows how much was done, so an idempotency key stays taken."""


def as_ours(error: BaseException, redactor: Redactor) -> SpacesError:
    """Itself, a cancellation, or Internal with a reference to the daemon's log."""
    if isinstance(error, SpacesError):
        return error
    if not isinstance(error, Exception):
        return Cancelled("The call was cancelled.", hint="Nothing more will happen.")
    reference = new_id("err")
    # The traceback goes to the daemon's log only: its text may hold what a caller must not see (MCP trap 2). What the
    # run used goes nowhere (threat L09).
    log.error("internal error %s\n%s", reference, redactor.text("".join(traceback.format_exception(error))))
    return Internal(
        f"Something went wrong inside mcp-spaces ({reference}).",
        hint="The operator finds the cause in the daemon's log under this reference.",
        reference=reference,
    )


def state_after(error: SpacesError) -> RunState:
    match error:
        case Denied() | ApprovalNeeded():
            return RunState.DENIED
        case Cancelled():
            return RunState.CANCELLED
        case _:
            return RunState.FAILED
