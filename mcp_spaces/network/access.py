"""Scope ∩ policy as they are now, asked anew for every connection: nothing is cached, so nothing is stale."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace

from mcp_spaces.core.policy import Policy
from mcp_spaces.core.scope import NetworkGrant, NetworkMode, Scope, narrow_network, narrow_vault
from mcp_spaces.network.model import NO_ACCESS, NO_SECRETS, Access, RuntimeRef, SecretAccess
from mcp_spaces.spaces.model import PolicyChoice, RuntimeKind, Space, SpaceState
from mcp_spaces.spaces.port import Runtimes, Spaces

log = logging.getLogger(__name__)


class LiveAccesses:
    """`owner_scope` is what the owner of a space may reach today, by its id."""

    def __init__(
        self,
        *,
        spaces: Spaces,
        runtimes: Runtimes,
        policy: Callable[[PolicyChoice], Policy],
        owner_scope: Callable[[str], Scope],
    ) -> None:
        self._spaces = spaces
        self._runtimes = runtimes
        self._policy = policy
        self._owner_scope = owner_scope

    def access(self, runtime: RuntimeRef) -> Access:
        try:
            return self._access(runtime)
        except Exception:
            # A damaged row, a policy that no longer reads, a locked database: all the same, nothing is reachable.
            log.exception("what runtime %s may reach cannot be read: nothing", runtime.id)
            return Access(because="policy")

    def secrets(self, runtime: RuntimeRef) -> SecretAccess:
        try:
            return self._secrets(runtime)
        except Exception:
            log.exception("what runtime %s may use of the vault cannot be read: nothing", runtime.id)
            return NO_SECRETS

    def _secrets(self, runtime: RuntimeRef) -> SecretAccess:
        space, row = self._spaces.get(runtime.space_id), self._runtimes.get(runtime.id)
        if space is None or row is None or space.state is not SpaceState.RUNNING or row.space_id != space.id:
            return NO_SECRETS
        if row.kind is not RuntimeKind.SANDBOX:
            # A page could name a secret in its own requests; browsers have their own way to use one.
            return NO_SECRETS
        mount = space.requested.mounts.network
        own_authority = mount is not None and mount.own_authority
        grant = narrow_vault(space.ceiling.vault, row.ceiling.vault)
        if grant.allow:
            grant = narrow_vault(self._owner_scope(space.owner_id).vault, grant)
        return SecretAccess(grant, self._policy(space.requested.policy), space.name, own_authority)

    def _access(self, runtime: RuntimeRef) -> Access:
        space, row = self._spaces.get(runtime.space_id), self._runtimes.get(runtime.id)
        if space is None or row is None or space.state is not SpaceState.RUNNING or row.space_id != space.id:
            return NO_ACCESS
        most = NetworkMode(self._policy(space.requested.policy).network.mode)
        access = self._granted(space, narrow_network(space.ceiling.network, row.ceiling.network), most)
        # One that was launched with none, in a space that has a network, would get it from what runs beside it.
        lonely = row.ceiling.network.mode is NetworkMode.NONE and space.ceiling.network.mode is not NetworkMode.NONE
        held = self._granted(space, space.ceiling.network, most).grant
        return replace(access, neighbours=not lonely, space=held)

    def _granted(self, space: Space, grant: NetworkGrant, most: NetworkMode) -> Access:
        if grant.mode is NetworkMode.NONE:
            return NO_ACCESS
        grant = narrow_network(self._owner_scope(space.owner_id).network, grant)
        if grant.mode is NetworkMode.NONE:
            return Access(because="the owner's scope")
        return limited(grant, most)


def limited(grant: NetworkGrant, most: NetworkMode) -> Access:
    """What is left of a grant under a policy's mode."""
    if most is NetworkMode.OPEN or (most is NetworkMode.ALLOWLIST and grant.mode is NetworkMode.ALLOWLIST):
        return Access(grant)
    # Where the policy wants a list and the mount has none, there is nothing that it permits.
    return Access(because="policy.network.mode")
