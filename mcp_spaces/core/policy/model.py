"""A policy: verdicts and limits, as an operator writes them.

What is not written is refused: every key without a value here is required or defaults to the narrowest.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from enum import StrEnum
from functools import cached_property
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from mcp_spaces.core.policy.verdict import Answer
from mcp_spaces.core.scope import NetworkMode
from mcp_spaces.core.spelling import Spelled

Name = Annotated[
    str,
    StringConstraints(min_length=1, max_length=200, pattern=r"^[^\s\x00-\x1f]+$"),
    Spelled("1 to 200 characters without spaces"),
]
Names = Annotated[tuple[Name, ...], Field(max_length=2_000)]
OperationId = Annotated[
    str,
    StringConstraints(max_length=100, pattern=r"^[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)+$"),
    Spelled("an operation such as storage.delete"),
]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class FilesAccess(StrEnum):
    NONE = "none"
    READ = "read"
    READ_WRITE = "read_write"


class ShellMode(StrEnum):
    NONE = "none"
    CURATED = "curated"
    ALL = "all"


class BrowserLevel(StrEnum):
    NONE = "none"
    READ = "read"
    INTERACT = "interact"
    ALL = "all"


class Files(_Section):
    access: FilesAccess = FilesAccess.NONE
    max_file_bytes: Annotated[int, Field(ge=0, le=1 << 40)] = 0
    blocked_paths: Names = ()
    """Patterns at any depth: `*.env`, `.git/hooks/`, `.*` for dotfiles."""


class Shell(_Section):
    """Besides mode and names: a verdict for each danger, whichever command holds it."""

    mode: ShellMode = ShellMode.NONE
    commands: Names = ()
    """Programs that the curated mode allows, besides the shell's builtins and programs in the workspace."""
    blocked: Names = ()
    build_folders: Names = ()
    """Folders whose trees may be deleted without asking."""
    timeout_s: Annotated[int, Field(ge=0, le=86_400)] = 0
    dynamic_command: Answer = Answer.DENY
    hidden_command: Answer = Answer.DENY
    execution_variables: Answer = Answer.DENY
    outside_programs: Answer = Answer.DENY
    recursive_delete: Answer = Answer.DENY
    recursive_permissions: Answer = Answer.DENY
    setuid_bits: Answer = Answer.DENY
    git_push: Answer = Answer.DENY
    publish: Answer = Answer.DENY


class Network(_Section):
    mode: NetworkMode = NetworkMode.NONE
    """The most that a mount's network may be in this space."""


class Secrets(_Section):
    use: Answer = Answer.DENY
    """At the gateway and in the browser, where the caller sees no value."""
    raw_reads: Answer = Answer.DENY


class Browser(_Section):
    level: BrowserLevel = BrowserLevel.NONE
    evaluate: Answer = Answer.DENY


class Effects(_Section):
    """The verdict for a call by what it does to the world; the sections above may be stricter, never wider."""

    observes: Answer = Answer.ALLOW
    composes: Answer = Answer.ALLOW
    governs: Answer = Answer.ALLOW
    starts: Answer = Answer.ALLOW
    ends: Answer = Answer.ALLOW
    reads: Answer = Answer.DENY
    creates: Answer = Answer.DENY
    writes: Answer = Answer.DENY
    deletes: Answer = Answer.DENY
    executes: Answer = Answer.DENY
    browses: Answer = Answer.DENY
    interacts: Answer = Answer.DENY


class Policy(_Section):
    name: Name
    files: Files = Files()
    shell: Shell = Shell()
    network: Network = Network()
    secrets: Secrets = Secrets()
    browser: Browser = Browser()
    effects: Effects = Effects()
    operations: Annotated[Mapping[OperationId, Answer], Field(max_length=500)] = Field(default_factory=dict)
    """A verdict for single operations. It narrows: an `allow` lifts nothing that another rule forbids."""

    @cached_property
    def version(self) -> str:
        """Names exactly these values: 16 hexadecimal digits of the sha256 of the canonical JSON."""
        canonical = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(canonical.encode()).hexdigest()[:16]
