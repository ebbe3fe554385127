"""The ceiling algebra: what may be reached, as one value that stands at all four levels.

    caller ∩ space ∩ runtime ∩ call

`narrow(a, b)` is what both permit; it is commutative, associative and idempotent. `covers(a, b)` says that `a`
permits everything that `b` permits; `covers(a, narrow(a, b))` always holds. Deny beats allow. The empty scope
permits nothing: silence means no.

Names are matched exactly; `*` alone means all of a kind. Vault prefixes match whole path segments.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from functools import lru_cache
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from mcp_spaces.core.limits import Limits
from mcp_spaces.core.patterns import (
    ANY,
    host_covers,
    is_below,
    meet_host,
    meet_names,
    meet_operation,
    meet_prefix,
    names_cover,
    operation_covers,
    outermost_prefixes,
    sorted_names,
    starts_with_segments,
    widest_hosts,
    widest_operations,
)
from mcp_spaces.core.same import Same
from mcp_spaces.core.spelling import Spelled

OWN_NAMESPACE = "own"
"""The storage namespace that belongs to the space itself and to nobody else."""

OperationPattern = Annotated[
    str,
    StringConstraints(pattern=r"^(\*|[a-z]+\.(\*|[a-z][a-z_]*))$", max_length=64),
    Spelled("an operation such as run.get, all of a noun such as sandbox.*, or *"),
]
Name = Annotated[
    str,
    StringConstraints(pattern=r"^(\*|[a-z0-9][a-z0-9._-]{0,62})$"),
    Spelled("1 to 63 of a-z 0-9 . _ -, beginning with a letter or digit, or *"),
]
VaultPrefix = Annotated[
    str,
    StringConstraints(pattern=r"^(\*|[a-z0-9][a-z0-9._-]{0,62}(/[a-z0-9][a-z0-9._-]{0,62}){0,7})$"),
    Spelled("a path such as prod or prod/crm, which stands for all below it, without a slash at its end, or *"),
]
HostRule = Annotated[
    str,
    StringConstraints(
        pattern=r"^(\*\.)?([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(:[1-9][0-9]{0,4})?$",
        max_length=260,
    ),
    Spelled(
        "a host such as example.com, example.com:443 or *.example.com, in small letters, without https:// or a path"
    ),
]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class StorageMode(StrEnum):
    NONE = "none"
    """Nothing, said out loud: takes one namespace out of a general grant."""
    READ = "ro"
    READ_WRITE = "rw"


class NetworkMode(StrEnum):
    NONE = "none"
    ALLOWLIST = "allowlist"
    OPEN = "open"


class StorageGrant(_Frozen):
    mode: StorageMode = StorageMode.READ
    prefix: str = ""
    """Only files whose path starts with these whole segments; empty means all."""

    @model_validator(mode="after")
    def _canonical(self) -> StorageGrant:
        if self.mode is StorageMode.NONE:
            object.__setattr__(self, "prefix", "")
        return self


_NO_STORAGE = StorageGrant(mode=StorageMode.NONE)


class VaultGrant(_Frozen):
    allow: tuple[VaultPrefix, ...] = ()
    deny: tuple[VaultPrefix, ...] = ()
    allow_raw_reads: bool = False

    @model_validator(mode="after")
    def _canonical(self) -> VaultGrant:
        deny = outermost_prefixes(self.deny)
        allow = tuple(one for one in outermost_prefixes(self.allow) if not any(is_below(one, other) for other in deny))
        object.__setattr__(self, "allow", allow)
        object.__setattr__(self, "deny", deny)
        return self

    def permits(self, path: str) -> bool:
        denied = any(is_below(path, prefix) for prefix in self.deny)
        return not denied and any(is_below(path, prefix) for prefix in self.allow)


class AiGrant(_Frozen):
    allow: tuple[Name, ...] = ()
    defaults: Mapping[Name, Name] = {}
    """Provider → connection. Counts only while the connection is in `allow`."""

    @model_validator(mode="after")
    def _canonical(self) -> AiGrant:
        object.__setattr__(self, "allow", sorted_names(self.allow))
        return self


class NetworkGrant(_Frozen):
    mode: NetworkMode = NetworkMode.NONE
    allow: tuple[HostRule, ...] = ()
    """`host`, `host:port` or `*.host` (sub-domains only); read only in mode allowlist."""

    @model_validator(mode="after")
    def _canonical(self) -> NetworkGrant:
        rules = widest_hosts(self.allow) if self.mode is NetworkMode.ALLOWLIST else ()
        object.__setattr__(self, "allow", rules)
        if self.mode is NetworkMode.ALLOWLIST and not rules:
            object.__setattr__(self, "mode", NetworkMode.NONE)
        return self


class Scope(_Frozen):
    """What may be reached. Every part is a set; `limits` are upper bounds."""

    operations: tuple[OperationPattern, ...] = ()
    storage: Mapping[Name, StorageGrant] = {}
    vault: VaultGrant = Field(default_factory=VaultGrant)
    ai: AiGrant = Field(default_factory=AiGrant)
    proxy: tuple[Name, ...] = ()
    network: NetworkGrant = Field(default_factory=NetworkGrant)
    limits: Limits = Field(default_factory=Limits)

    @model_validator(mode="after")
    def _canonical(self) -> Scope:
        object.__setattr__(self, "operations", widest_operations(self.operations))
        object.__setattr__(self, "proxy", sorted_names(self.proxy))
        # A grant that the general one gives already says nothing new; dropping it makes equal scopes compare equal.
        general = self.storage.get(ANY, _NO_STORAGE)
        kept = {name: grant for name, grant in sorted(self.storage.items()) if name != ANY and grant != general}
        if general != _NO_STORAGE:
            kept[ANY] = general
        object.__setattr__(self, "storage", kept)
        return self

    def permits_operation(self, operation_id: str) -> bool:
        return any(operation_covers(pattern, operation_id) for pattern in self.operations)

    def storage_grant(self, namespace: str) -> StorageGrant:
        return self.storage.get(namespace, self.storage.get(ANY, _NO_STORAGE))


EVERYTHING = Scope(
    operations=(ANY,),
    storage={ANY: StorageGrant(mode=StorageMode.READ_WRITE)},
    vault=VaultGrant(allow=(ANY,), allow_raw_reads=True),
    ai=AiGrant(allow=(ANY,)),
    proxy=(ANY,),
    network=NetworkGrant(mode=NetworkMode.OPEN),
    limits=Limits.unlimited(),
)


def narrow(a: Scope, b: Scope) -> Scope:
    """What both permit."""
    return Scope(
        operations=tuple(m for x in a.operations for y in b.operations if (m := meet_operation(x, y))),
        storage={
            name: _narrow_storage(a.storage_grant(name), b.storage_grant(name)) for name in {*a.storage, *b.storage}
        },
        vault=narrow_vault(a.vault, b.vault),
        ai=AiGrant(
            allow=meet_names(a.ai.allow, b.ai.allow),
            defaults=_meet_defaults(a.ai.defaults, b.ai.defaults),
        ),
        proxy=meet_names(a.proxy, b.proxy),
        network=narrow_network(a.network, b.network),
        limits=a.limits.meet(b.limits),
    )


def covers(a: Scope, b: Scope) -> bool:
    """Whether `a` permits everything that `b` permits."""
    return not excess(a, b)


def excess(ceiling: Scope, wanted: Scope) -> list[str]:
    """The parts of `wanted` that `ceiling` does not permit, as dotted keys. Empty means covered."""
    found: list[str] = []
    for pattern in wanted.operations:
        if not any(operation_covers(outer, pattern) for outer in ceiling.operations):
            found.append(f"operations.{pattern}")
    for name in sorted({*ceiling.storage, *wanted.storage}):
        if not _storage_covers(ceiling.storage_grant(name), wanted.storage_grant(name)):
            found.append(f"storage.{name}")
    found += [f"vault.allow.{one}" for one in wanted.vault.allow if not _vault_covers(ceiling.vault, one, wanted.vault)]
    if wanted.vault.allow_raw_reads and not ceiling.vault.allow_raw_reads:
        found.append("vault.allow_raw_reads")
    found += [f"ai.allow.{one}" for one in wanted.ai.allow if not names_cover(ceiling.ai.allow, one)]
    found += [f"proxy.{one}" for one in wanted.proxy if not names_cover(ceiling.proxy, one)]
    found += _network_excess(ceiling.network, wanted.network)
    found += [f"limits.{name}" for name in ceiling.limits.exceeded_by(wanted.limits)]
    return found


def _vault_covers(outer: VaultGrant, prefix: str, inner: VaultGrant) -> bool:
    if not any(is_below(prefix, allowed) for allowed in outer.allow):
        return False
    # What the outer one denies below this prefix has to be denied by the inner one too.
    for denied in outer.deny:
        reached = meet_prefix(prefix, denied)
        if reached is not None and not any(is_below(reached, also) for also in inner.deny):
            return False
    return True


def _meet_defaults(a: Mapping[str, str], b: Mapping[str, str]) -> dict[str, str]:
    # A default is a preference, not a permission. The smaller name wins, so that the order of narrowing is all one.
    return {key: min(side[key] for side in (a, b) if key in side) for key in sorted({*a, *b})}


def _narrow_storage(a: StorageGrant, b: StorageGrant) -> StorageGrant:
    apart = not (starts_with_segments(a.prefix, b.prefix) or starts_with_segments(b.prefix, a.prefix))
    modes = {a.mode, b.mode}
    if apart or StorageMode.NONE in modes:
        return _NO_STORAGE
    mode = StorageMode.READ if StorageMode.READ in modes else StorageMode.READ_WRITE
    return StorageGrant(mode=mode, prefix=max(a.prefix, b.prefix, key=len))


def _storage_covers(outer: StorageGrant, inner: StorageGrant) -> bool:
    if inner.mode is StorageMode.NONE:
        return True
    if outer.mode is StorageMode.NONE or (inner.mode, outer.mode) == (StorageMode.READ_WRITE, StorageMode.READ):
        return False
    return starts_with_segments(inner.prefix, outer.prefix)


def narrow_vault(a: VaultGrant, b: VaultGrant) -> VaultGrant:
    """What both permit."""
    return VaultGrant(
        allow=tuple(m for x in a.allow for y in b.allow if (m := meet_prefix(x, y)) is not None),
        deny=(*a.deny, *b.deny),
        allow_raw_reads=a.allow_raw_reads and b.allow_raw_reads,
    )


def narrow_network(a: NetworkGrant, b: NetworkGrant) -> NetworkGrant:
    """What both permit."""
    if a.mode is NetworkMode.OPEN:
        return b
    if b.mode is NetworkMode.OPEN:
        return a
    met = tuple(m for x in a.allow for y in b.allow if (m := meet_host(x, y)) is not None)
    return NetworkGrant(mode=NetworkMode.ALLOWLIST, allow=met)


def _network_excess(outer: NetworkGrant, inner: NetworkGrant) -> list[str]:
    if outer.mode is NetworkMode.OPEN or inner.mode is NetworkMode.NONE:
        return []
    if inner.mode is NetworkMode.OPEN or outer.mode is NetworkMode.NONE:
        return ["network.mode"]
    return [f"network.allow.{one}" for one in inner.allow if not any(host_covers(rule, one) for rule in outer.allow)]


def narrow_again(a: Scope, b: Scope) -> Scope:
    """`narrow`, remembered: callers, spaces and runtimes keep their scopes from one call to the next."""
    return _remembered(Same(a), Same(b))


@lru_cache(maxsize=1_024)
def _remembered(a: Same[Scope], b: Same[Scope]) -> Scope:
    return narrow(a.value, b.value)
