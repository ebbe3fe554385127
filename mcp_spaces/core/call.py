"""One call on its way through the pipeline's steps; each fills in what it found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mcp_spaces.core.approvals import fingerprint
from mcp_spaces.core.caller import Caller
from mcp_spaces.core.context import Progress
from mcp_spaces.core.journal import Run
from mcp_spaces.core.operation import AnyOperation
from mcp_spaces.core.place import RuntimePlace, SpacePlace
from mcp_spaces.core.policy import Policy
from mcp_spaces.core.redaction import Redactor
from mcp_spaces.core.scope import Scope


@dataclass(slots=True, kw_only=True)
class Call:
    caller: Caller
    operation: AnyOperation
    run: Run
    redactor: Redactor
    known: Sequence[Redactor]
    """What of the input is in no record besides."""
    counted: Counter[str]
    """What the redactor had found before this call."""
    progress: Progress
    key: str | None
    key_is_ours: bool = False
    settled: bool = True
    """Whether the answer is the last word, to be given again to a repeat with the key."""
    cancelled: bool = False
    """Whether the answer is what a call that was cancelled had done."""
    input: Any = None
    space: SpacePlace | None = None
    runtime: RuntimePlace | None = None
    scope: Scope
    policy: Policy

    def fingerprint(self, *, policy_version: str) -> str:
        return fingerprint(
            self.operation.id,
            self.input.model_dump_json(),
            principal_id=self.caller.principal_id,
            space_id=self.run.space_id,
            runtime_id=self.run.runtime_id,
            policy_version=policy_version,
        )
