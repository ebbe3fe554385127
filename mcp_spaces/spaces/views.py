"""What is shown of a space and its runtimes: the one picture for agents, the command line and the Agent Context."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from pydantic import BaseModel

from mcp_spaces.core.approvals import Approval, Approvals
from mcp_spaces.core.caller import Caller, Role
from mcp_spaces.core.scope import OWN_NAMESPACE, NetworkMode, Scope, StorageMode, narrow
from mcp_spaces.spaces.model import Runtime, RuntimeState, Space, SpaceState
from mcp_spaces.spaces.port import Runtimes
from mcp_spaces.spaces.quotas import used_by
from mcp_spaces.spaces.store import SpaceStore
from mcp_spaces.storage.port import StorageUse

SHOWN_LIMITS = ("cpu_cores", "memory_bytes", "disk_bytes", "pids", "runtimes", "storage_bytes", "call_seconds")


class Use(BaseModel):
    """`used` is absent where only the bound is known."""

    used: float | None = None
    limit: float


class RuntimeView(BaseModel):
    id: str
    kind: str
    alias: str
    state: RuntimeState
    image: str | None = None
    reason: str | None = None
    cpu_cores: float
    memory_bytes: int
    disk_bytes: int
    started_at: str | None = None


class ApprovalView(BaseModel):
    id: str
    operation: str
    reason: str
    rule: str
    by: str
    input: str
    expires_at: str


class MountsView(BaseModel):
    """What may be reached: the ceiling, as far as the caller's own scope goes."""

    storage: dict[str, str]
    vault: dict[str, object] | None = None
    ai: list[str] | None = None
    proxy: list[str] | None = None
    network: dict[str, object]


class PolicyView(BaseModel):
    preset: str
    version: str
    overrides: Mapping[str, object] | None = None


class SpaceView(BaseModel):
    id: str
    name: str
    role: Role
    state: SpaceState
    labels: Mapping[str, str] | None = None
    region: str | None = None
    policy: PolicyView
    mounts: MountsView
    limits: dict[str, Use]
    runtimes: list[RuntimeView]
    pending_approvals: list[ApprovalView]
    created_at: str
    expires_at: str | None = None
    idle_timeout_s: float | None = None


class SpaceRow(BaseModel):
    """One line of a list. `cpu`, `memory`, `disk` are used/limit."""

    id: str
    name: str
    role: Role
    state: SpaceState
    cpu: str
    memory: str
    disk: str
    net: NetworkMode
    llm_tokens: str
    created_at: str


def iso(at: float | None) -> str | None:
    return None if at is None else datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")


@dataclass(frozen=True, slots=True)
class SpaceViews:
    """Draws views from the stores."""

    spaces: SpaceStore
    runtimes: Runtimes
    approvals: Approvals
    storage: StorageUse

    def whole(self, caller: Caller, space: Space) -> SpaceView:
        runtimes = self.runtimes.of_space(space.id)
        scope = narrow(caller.scope, space.ceiling)
        policy, network = self.spaces.policy(space.requested.policy), space.requested.mounts.network
        return SpaceView(
            id=space.id,
            name=space.name,
            role=self.spaces.role(caller, space),
            state=space.state,
            labels=dict(space.requested.labels) or None,
            region=space.requested.region,
            policy=PolicyView(
                preset=space.requested.policy.preset,
                version=policy.version,
                overrides=dict(space.requested.policy.overrides) or None,
            ),
            mounts=mounts_view(scope, own_authority=network is not None and network.own_authority),
            limits=self._limits(space, scope, runtimes),
            runtimes=[runtime_view(one) for one in runtimes],
            pending_approvals=[approval_view(one) for one in self.approvals.pending(space_id=space.id)],
            created_at=iso(space.created_at) or "",
            expires_at=iso(space.expires_at),
            idle_timeout_s=space.requested.idle_timeout_s,
        )

    def row(self, caller: Caller, space: Space) -> SpaceRow:
        use, limits = used_by(self.runtimes.of_space(space.id)), space.ceiling.limits
        return SpaceRow(
            id=space.id,
            name=space.name,
            role=self.spaces.role(caller, space),
            state=space.state,
            cpu=f"{use.cpu_cores:g}/{limits.cpu_cores:g}",
            memory=f"{_gib(use.memory_bytes)}/{_gib(limits.memory_bytes)} GiB",
            disk=f"{_gib(use.disk_bytes)}/{_gib(limits.disk_bytes)} GiB",
            net=narrow(caller.scope, space.ceiling).network.mode,
            llm_tokens="0/0",
            created_at=iso(space.created_at) or "",
        )

    def _limits(self, space: Space, scope: Scope, runtimes: list[Runtime]) -> dict[str, Use]:
        use = used_by(runtimes)
        used: dict[str, float] = {name: getattr(use, name) for name in use.model_fields_set}
        used["storage_bytes"] = self.storage.stored_bytes(space.id)
        return {name: Use(used=used.get(name), limit=getattr(scope.limits, name)) for name in SHOWN_LIMITS}


def mounts_view(scope: Scope, *, own_authority: bool) -> MountsView:
    vault = scope.vault
    network: dict[str, object] = {"mode": scope.network.mode}
    if scope.network.allow:
        network["allow"] = scope.network.allow
    if own_authority:
        network["own_authority"] = True
    return MountsView(
        storage={
            name: f"{grant.mode} {grant.prefix}".rstrip()
            for name, grant in scope.storage.items()
            if grant.mode is not StorageMode.NONE or name == OWN_NAMESPACE
        },
        vault={"allow": vault.allow, "deny": vault.deny, "raw_reads": vault.allow_raw_reads} if vault.allow else None,
        ai=list(scope.ai.allow) or None,
        proxy=list(scope.proxy) or None,
        network=network,
    )


def runtime_view(runtime: Runtime) -> RuntimeView:
    limits = runtime.ceiling.limits
    return RuntimeView(
        id=runtime.id,
        kind=runtime.kind,
        alias=runtime.alias,
        state=runtime.state,
        image=runtime.image or None,
        reason=runtime.reason or None,
        cpu_cores=limits.cpu_cores,
        memory_bytes=limits.memory_bytes,
        disk_bytes=limits.disk_bytes,
        started_at=iso(runtime.started_at),
    )


def approval_view(approval: Approval) -> ApprovalView:
    return ApprovalView(
        id=approval.id,
        operation=approval.operation,
        reason=approval.reason,
        rule=approval.rule,
        by=approval.principal_name,
        input=approval.input,
        expires_at=iso(approval.expires_at) or "",
    )


def _gib(amount: float) -> str:
    return f"{amount / (1 << 30):.1f}".removesuffix(".0")
