"""Where a call takes place: the space and the runtime that it names, as the pipeline needs to know them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from pydantic import BaseModel, ConfigDict, Field

from mcp_spaces.core.caller import Caller, Role
from mcp_spaces.core.policy import Policy
from mcp_spaces.core.scope import Scope

DEFAULT_SPACE = "default"
"""Names the caller's default space."""


class Everywhere(BaseModel):
    """Input of an operation that is not about one space."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class InSpace(Everywhere):
    """Input of an operation inside a space."""

    space: str = Field(default=DEFAULT_SPACE, min_length=1, max_length=200)
    """Id or unique name."""


class InRuntime(InSpace):
    """Input of an operation inside a runtime of a space."""

    runtime: str | None = Field(default=None, min_length=1, max_length=200)
    """Id or alias; needed where several fit."""


@dataclass(frozen=True, slots=True)
class SpacePlace:
    """A space as this caller sees it. `version` grows with every change of ceiling or policy."""

    id: str
    name: str
    role: Role
    running: bool
    ceiling: Scope
    policy: Policy
    version: int


@dataclass(frozen=True, slots=True)
class RuntimePlace:
    id: str
    alias: str
    kind: str
    ceiling: Scope


class Places(Protocol):
    """How the pipeline finds what a call names."""

    def space(self, caller: Caller, reference: str) -> SpacePlace:
        """Raises NotFound (absent and invisible alike, with the same text) or Ambiguous."""

    def runtime(self, space: SpacePlace, reference: str | None, *, operation_id: str, active: bool) -> RuntimePlace:
        """Where nothing is named, the only one; where an `active` one is needed, the only one that is not stopped.

        Raises NotFound, or Ambiguous where several fit.
        """
