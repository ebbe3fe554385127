"""Every error that leaves a room, as one tree.

    SpacesError
    ├── InvalidInput         invalid_input        the call cannot be understood as written
    ├── NotFound             not_found            absent, or not visible to this caller: the same answer
    ├── Ambiguous            ambiguous            a name fits several things; the hint lists the ids
    ├── Denied               denied               policy says no
    ├── ExceedsCeiling       exceeds_ceiling      more was asked than the ceiling holds; `key` names what
    ├── ApprovalNeeded       approval_needed      a person has to say yes first; `approval_id` names the request
    ├── PinNeeded            pin_needed           the operator set a PIN, and the call came without it
    ├── Conflict             conflict             somebody else was first, or the same key came with another body
    ├── WrongState           wrong_state          the thing exists, but cannot do that now
    ├── QuotaExceeded        quota                a stated limit is reached
    ├── Unauthenticated      unauthenticated      no key, or one that is not valid
    ├── TimedOut             timeout              it took longer than allowed and was stopped
    ├── Cancelled            cancelled            the caller took it back
    ├── OutOfMemory          oom                  the runtime's memory limit was hit
    ├── RuntimeUnavailable   runtime_unavailable  the engine or the runtime does not answer       (retryable)
    ├── Busy                 busy                 the state is locked by somebody else             (retryable)
    ├── DiskFull             disk_full            nothing can be recorded, so nothing is done      (retryable)
    └── Internal             internal             our fault; `reference` finds it in the daemon's log

`code` is stable and for programs. `message` says what happened, `hint` what to do next; both are for
people and models, and hold nothing private. Not errors: a command's non-zero exit, an empty list.
"""

from __future__ import annotations

from typing import ClassVar


class SpacesError(Exception):
    """What a caller is told. Foreign exceptions are translated into one of these at a room's border."""

    code: ClassVar[str] = "internal"
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, *, hint: str) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.run_id: str | None = None
        """The record of the call that failed, where there is one; the pipeline fills it in."""
        self.for_operator: SpacesError | None = None
        """The same in words that name what is on the host; the pipeline tells an operator those."""

    def details(self) -> dict[str, str]:
        """Further facts for programs, beside code, message and hint."""
        return {}


class InvalidInput(SpacesError):
    code = "invalid_input"


class NotFound(SpacesError):
    code = "not_found"


class Ambiguous(SpacesError):
    code = "ambiguous"


class Denied(SpacesError):
    """Policy's no. `rule` names the line of the policy that said it."""

    code = "denied"

    def __init__(self, message: str, *, hint: str, rule: str) -> None:
        super().__init__(message, hint=hint)
        self.rule = rule

    def details(self) -> dict[str, str]:
        return {"rule": self.rule}


class ExceedsCeiling(SpacesError):
    """More was asked for than the ceiling holds. `key` is the path of the offending part, as in the request."""

    code = "exceeds_ceiling"

    def __init__(self, message: str, *, hint: str, key: str) -> None:
        super().__init__(message, hint=hint)
        self.key = key

    def details(self) -> dict[str, str]:
        return {"key": self.key}


class ApprovalNeeded(SpacesError):
    """A person has to say yes to exactly this call."""

    code = "approval_needed"

    def __init__(self, message: str, *, hint: str, approval_id: str, rule: str) -> None:
        super().__init__(message, hint=hint)
        self.approval_id = approval_id
        self.rule = rule

    def details(self) -> dict[str, str]:
        return {"approval_id": self.approval_id, "rule": self.rule}


class PinNeeded(SpacesError):
    code = "pin_needed"


class Conflict(SpacesError):
    code = "conflict"


class WrongState(SpacesError):
    code = "wrong_state"


class QuotaExceeded(SpacesError):
    code = "quota"


class Unauthenticated(SpacesError):
    code = "unauthenticated"


class TimedOut(SpacesError):
    code = "timeout"


class Cancelled(SpacesError):
    code = "cancelled"


class OutOfMemory(SpacesError):
    code = "oom"


class RuntimeUnavailable(SpacesError):
    code = "runtime_unavailable"
    retryable = True


class Busy(SpacesError):
    code = "busy"
    retryable = True


class DiskFull(SpacesError):
    code = "disk_full"
    retryable = True


class Internal(SpacesError):
    """Our fault. The cause is in the daemon's log under `reference`; the caller sees only the reference."""

    code = "internal"

    def __init__(self, message: str, *, hint: str, reference: str) -> None:
        super().__init__(message, hint=hint)
        self.reference = reference

    def details(self) -> dict[str, str]:
        return {"reference": self.reference}
