"""Who calls, as the pipeline needs to know it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from mcp_spaces.core.policy import Policy
from mcp_spaces.core.scope import Scope


class Kind(StrEnum):
    PERSON = "person"
    AGENT = "agent"


class Role(StrEnum):
    """What a principal is to a space."""

    ADMIN = "admin"
    OWNER = "owner"
    AGENT = "agent"


@dataclass(frozen=True, slots=True)
class Caller:
    """One authenticated principal, as narrowed by the key that it showed.

    `spaces` limits what is visible to these ids (None: what the principal may see). `operator` is true only on the
    operator's own socket or with an operator's key; no agent ever gets it. `expires_at`: calls end by then.
    """

    principal_id: str
    name: str
    kind: Kind
    scope: Scope
    policy: Policy
    spaces: frozenset[str] | None = None
    operator: bool = False
    key_id: str | None = None
    expires_at: float | None = None
