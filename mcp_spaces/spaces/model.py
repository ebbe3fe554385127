"""Spaces and runtimes, as they are stored."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from mcp_spaces.core.limits import GIB, Limits
from mcp_spaces.core.scope import OWN_NAMESPACE, Scope, StorageGrant, StorageMode, narrow
from mcp_spaces.core.scope_request import LimitsRequest, Mounts, ScopeRequest
from mcp_spaces.core.spelling import NAME, Spelled
from mcp_spaces.errors import ExceedsCeiling

SpaceName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$"), NAME]
Alias = Annotated[
    str,
    StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,30}$"),
    Spelled("1 to 31 of a-z, 0-9 and -, beginning with a letter or digit"),
]
LabelText = Annotated[str, StringConstraints(max_length=200)]

DEFAULT_LIMITS = Limits(
    cpu_cores=2,
    memory_bytes=4 * GIB,
    disk_bytes=8 * GIB,
    pids=512,
    runtimes=4,
    call_seconds=600,
    storage_bytes=2 * GIB,
    concurrent_calls=32,
    calls_per_day=1_000_000,
    spaces=0,
)
"""What a space holds when nothing else was asked, as far as its owner's own scope goes."""

OWN_STORAGE = {OWN_NAMESPACE: StorageGrant(mode=StorageMode.READ_WRITE)}


class SpaceState(StrEnum):
    RUNNING = "running"
    STOPPED = "stopped"


class PolicyChoice(BaseModel):
    """A preset, and what differs from it."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    preset: Literal["restrictive", "standard", "permissive"] = "standard"
    overrides: Mapping[str, object] = Field(default={}, max_length=20)
    """Merged over the preset, such as {shell: {git_push: deny}}."""


class SpaceRequest(BaseModel):
    """What was asked for, kept as it was asked: a change is a merge patch over this."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    name: SpaceName
    labels: Mapping[LabelText, LabelText] = Field(default={}, max_length=50)
    region: str | None = Field(default=None, max_length=100)
    """A label; nothing is placed by it."""
    policy: PolicyChoice = PolicyChoice()
    mounts: Mounts = Mounts()
    limits: LimitsRequest = LimitsRequest()
    idle_timeout_s: float | None = Field(default=None, gt=0, le=31_536_000)
    """Seconds without a call after which the space goes down by itself."""


class Space(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    owner_id: str
    state: SpaceState
    requested: SpaceRequest
    ceiling: Scope
    version: int
    """Grows with every change of the ceiling or the policy."""
    created_at: float
    expires_at: float | None

    @property
    def name(self) -> str:
        return self.requested.name


class RuntimeKind(StrEnum):
    SANDBOX = "sandbox"
    BROWSER = "browser"


class RuntimeState(StrEnum):
    STOPPED = "stopped"
    STARTING = "starting"
    ACTIVE = "active"
    STOPPING = "stopping"
    FAILED = "failed"


class Runtime(BaseModel):
    """A place where things run. `ceiling` is what its launch asked for, never more than the space's."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    space_id: str
    kind: RuntimeKind
    alias: str
    state: RuntimeState
    reason: str = ""
    """Why it is stopped or failed, in words."""
    image: str = ""
    ceiling: Scope
    asked: tuple[str, ...] | None = None
    """The parts of its scope that its launches named. The others are the space's, anew at each start; None, of a
    runtime that an older version launched: all stay as they are."""
    created_at: float
    started_at: float | None = None

    @property
    def holds(self) -> bool:
        """A container or a browser of it may be there, and it counts against the space's limits."""
        return self.state in (RuntimeState.STARTING, RuntimeState.ACTIVE, RuntimeState.STOPPING)

    def exceeds(self, limits: Limits) -> bool:
        """Was it made larger than this? What runs keeps the size that it was made with."""
        return any(getattr(self.ceiling.limits, name) > getattr(limits, name) for name in SIZES)


SIZES = ("cpu_cores", "memory_bytes", "disk_bytes", "pids")
"""The limits that each runtime takes a part of."""


PARTS = ("operations", "storage", "vault", "ai", "proxy", "network")
"""Of a scope, all but its limits."""


def parts_named(request: ScopeRequest | None, *, before: tuple[str, ...] = ()) -> tuple[str, ...]:
    """The parts that a launch names, or one before it did."""
    named = () if request is None else tuple(part for part in PARTS if getattr(request, part) is not None)
    return tuple(part for part in PARTS if part in (*before, *named))


def inherited_again(scope: Scope, found: Runtime) -> Scope:
    """What a runtime has when it is started again, unless that call says otherwise: what its launches named, as far as
    `scope` holds it still; of all else what `scope` holds by now. It keeps its size."""
    kept = narrow(scope, found.ceiling)
    if found.asked is None:
        return kept
    return kept.model_copy(update={part: getattr(scope, part) for part in PARTS if part not in found.asked})


def free_alias(taken: Collection[str], first: str) -> str:
    """`main`, `main-2`, `main-3` …"""
    alias, number = first, 2
    while alias in taken:
        alias, number = f"{first}-{number}", number + 1
    return alias


def sized(ceiling: Scope, wanted: Limits, *, kind: RuntimeKind) -> Scope:
    """What a runtime gets that asks for nothing: `wanted`, as far as the ceiling goes. Raises ExceedsCeiling when it
    holds none at all."""
    sizes = {name: min(getattr(wanted, name), getattr(ceiling.limits, name)) for name in SIZES}
    for name, size in sizes.items():
        if not size:
            raise ExceedsCeiling(
                f"The space holds no {name} for a {kind}.",
                hint="A person has to widen the space's limits.",
                key=f"limits.{name}",
            )
    return ceiling.model_copy(update={"limits": ceiling.limits.model_copy(update=sizes)})
