"""What somebody asks for, against a ceiling: a part that is left out is inherited, more than there is is an error."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from mcp_spaces.core.limits import Limits
from mcp_spaces.core.one_or_several import OneOrSeveral
from mcp_spaces.core.scope import (
    AiGrant,
    HostRule,
    Name,
    NetworkGrant,
    NetworkMode,
    OperationPattern,
    Scope,
    StorageGrant,
    StorageMode,
    VaultGrant,
    VaultPrefix,
    excess,
)
from mcp_spaces.errors import ExceedsCeiling, InvalidInput

Prefix = Annotated[str, StringConstraints(max_length=1024)]


class _Request(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class StorageMount(_Request):
    namespace: Name
    mode: Literal["ro", "rw"] = "ro"
    prefix: Prefix = ""


class VaultMount(_Request):
    allow: tuple[VaultPrefix, ...] = Field(default=(), max_length=100)
    deny: tuple[VaultPrefix, ...] = Field(default=(), max_length=100)
    allow_raw_reads: bool = False


class AiMount(_Request):
    allow: tuple[Name, ...] = Field(default=(), max_length=100)
    defaults: Mapping[Name, Name] = Field(default={}, max_length=20)


class NetworkMount(_Request):
    mode: Literal["none", "allowlist", "open"] = "none"
    allow: tuple[HostRule, ...] = Field(default=(), max_length=200)
    own_authority: bool = False
    """A space's: TLS to hosts that secrets are bound to ends at the gateway, under a certificate authority of the
    space's own. Counts for sandboxes that are launched afterwards."""


class Mounts(_Request):
    """What a space may use besides its own files."""

    storage: OneOrSeveral[StorageMount] | None = None
    vault: VaultMount | None = None
    ai: AiMount | None = None
    proxy: tuple[Name, ...] | None = Field(default=None, max_length=100)
    network: NetworkMount | None = None


class LimitsRequest(_Request):
    """Each that is left out is inherited."""

    cpu_cores: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    memory_bytes: int | None = Field(default=None, ge=16 << 20)
    disk_bytes: int | None = Field(default=None, ge=1 << 20)
    pids: int | None = Field(default=None, ge=8)
    runtimes: int | None = Field(default=None, ge=0)
    call_seconds: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    storage_bytes: int | None = Field(default=None, ge=0)
    concurrent_calls: int | None = Field(default=None, ge=1)

    def over(self, inherited: Limits) -> Limits:
        asked = {name: value for name, value in self if value is not None}
        return inherited.model_copy(update=asked)


class ScopeRequest(Mounts):
    """A scope asked for below a ceiling, with any part left out."""

    operations: tuple[OperationPattern, ...] | None = Field(default=None, max_length=100)
    limits: LimitsRequest | None = None

    @model_validator(mode="after")
    def _no_authority(self) -> ScopeRequest:
        if self.network is not None and self.network.own_authority:
            raise ValueError("own_authority belongs to a space's mounts")
        return self

    def over(self, inherited: Scope) -> Scope:
        """The scope asked for: what is left out is as inherited."""
        return Scope(
            operations=inherited.operations if self.operations is None else self.operations,
            storage=inherited.storage if self.storage is None else storage_grants(self.storage),
            vault=inherited.vault if self.vault is None else VaultGrant(**self.vault.model_dump()),
            ai=inherited.ai if self.ai is None else AiGrant(**self.ai.model_dump()),
            proxy=inherited.proxy if self.proxy is None else self.proxy,
            network=inherited.network if self.network is None else network_grant(self.network),
            limits=inherited.limits if self.limits is None else self.limits.over(inherited.limits),
        )


def storage_grants(mounts: tuple[StorageMount, ...] | StorageMount) -> dict[str, StorageGrant]:
    several = (mounts,) if isinstance(mounts, StorageMount) else mounts
    return {one.namespace: StorageGrant(mode=StorageMode(one.mode), prefix=one.prefix) for one in several}


def network_grant(mount: NetworkMount) -> NetworkGrant:
    """Raises InvalidInput: hosts are listed, and no mode says that they count. A list beside `none` rests on purpose."""
    if mount.allow and "mode" not in mount.model_fields_set:
        raise InvalidInput(
            "network.allow counts only in the mode allowlist, and network.mode is left out.",
            hint='Write {"mode": "allowlist", "allow": […]}.',
        )
    return NetworkGrant(mode=NetworkMode(mount.mode), allow=mount.allow)


def within(ceiling: Scope, wanted: Scope, *, whose: str, who: str, already: Scope | None = None) -> Scope:
    """`wanted`, when each part of it is covered by `ceiling` or `already` there. `whose` ceiling it is, and `who` can
    widen it, as parts of sentences.

    Raises ExceedsCeiling naming the first key that does not fit; never clips.
    """
    too_much = excess(ceiling, wanted)
    if too_much and already is not None:
        raised = excess(already, wanted)
        too_much = [key for key in too_much if key in raised]
    if not too_much:
        return wanted
    more = f" (and {len(too_much) - 1} more)" if len(too_much) > 1 else ""
    raise ExceedsCeiling(
        f"{too_much[0]} is more than {whose} holds{more}.",
        hint=f"Ask for less, or let {who} widen it. context_get shows what there is.",
        key=too_much[0],
    )
