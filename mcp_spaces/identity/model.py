"""Principals and keys, as they are stored."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict

from mcp_spaces.core.caller import Kind
from mcp_spaces.core.ids import new_id
from mcp_spaces.core.limits import GIB, Limits
from mcp_spaces.core.patterns import ANY
from mcp_spaces.core.scope import OWN_NAMESPACE, Scope, StorageGrant, StorageMode

OPERATOR = "operator"
LOCAL_AGENT = "local-agent"

AGENT_LIMITS = Limits(
    cpu_cores=4,
    memory_bytes=8 * GIB,
    disk_bytes=20 * GIB,
    pids=1024,
    runtimes=8,
    call_seconds=600,
    storage_bytes=10 * GIB,
    concurrent_calls=64,
    calls_per_day=1_000_000,
    spaces=20,
)
"""What the local agent may use until the operator says otherwise. A space gets a part of it."""

AGENT_SCOPE = Scope(
    operations=(ANY,),
    storage={OWN_NAMESPACE: StorageGrant(mode=StorageMode.READ_WRITE)},
    limits=AGENT_LIMITS,
)
"""May create spaces and work in them; may mount nothing that the operator did not grant."""

AGENT_POLICY = "standard"
"""The widest preset that the local agent may choose for its spaces."""


class Principal(BaseModel):
    """Who calls: a person or an agent. `policy` names the widest preset that its spaces may have."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    name: str
    kind: Kind
    scope: Scope
    policy: str
    created_at: float


class Key(BaseModel):
    """A bearer key. Only the hash of its secret is kept; 256 random bits need no salt."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    principal_id: str
    label: str
    secret_sha256: str
    spaces: tuple[str, ...] | None
    scope: Scope | None
    operator: bool
    created_at: float
    expires_at: float | None
    revoked_at: float | None = None


TOKEN = re.compile(r"msp_([a-z2-7]{26})_([A-Za-z0-9_-]{43})")
"""`msp_<public id>_<secret>`: the prefix is for secret scanners (threat T03)."""


@dataclass(frozen=True, slots=True)
class NewToken:
    """A fresh key: `token` is shown once and kept nowhere."""

    key_id: str
    token: str
    secret_sha256: str


def new_token() -> NewToken:
    public, secret = new_id("key"), secrets.token_urlsafe(32)
    return NewToken(public, f"msp_{public.removeprefix('key_')}_{secret}", _hash(secret))


def parse_token(token: str) -> tuple[str, str] | None:
    """Key id and secret, or None when it is no token of ours."""
    found = TOKEN.fullmatch(token)
    return None if found is None else (f"key_{found.group(1)}", found.group(2))


def secret_matches(secret: str, key: Key | None) -> bool:
    """Takes the same path for a key that does not exist (threat T05)."""
    expected = _hash("absent") if key is None else key.secret_sha256
    return hmac.compare_digest(_hash(secret), expected) and key is not None


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
