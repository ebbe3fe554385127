"""From a target that is permitted to a connection: a sandbox beside, a proxy on the way, or an address that was checked."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mcp_spaces.errors import NotFound, RuntimeUnavailable, SpacesError, TimedOut
from mcp_spaces.network import addresses
from mcp_spaces.network.model import PrivateHosts, Reason, Refused, RuntimeRef, Target
from mcp_spaces.network.port import Dialer, Neighbours, Resolver
from mcp_spaces.network.proxies import Proxies
from mcp_spaces.network.rules import is_sandbox, sandbox_alias, shown
from mcp_spaces.sandbox.port import Connection


class Reaching:
    """`is_own` knows the addresses of this machine."""

    def __init__(
        self,
        *,
        neighbours: Neighbours,
        resolver: Resolver,
        dialer: Dialer,
        private: PrivateHosts,
        proxies: Proxies,
        is_own: Callable[[str], bool],
    ) -> None:
        self._neighbours = neighbours
        self._resolver = resolver
        self._dialer = dialer
        self._private = private
        self._proxies = proxies
        self._is_own = is_own

    async def connect(self, runtime: RuntimeRef, target: Target) -> Connection:
        """Raises Refused, or what a proxy on the way raises."""
        if is_sandbox(target.host):
            return await self._neighbour(runtime, target)
        return await self._dial(target, runtime)

    async def _neighbour(self, runtime: RuntimeRef, target: Target) -> Connection:
        try:
            return await self._neighbours.dial(runtime.space_id, sandbox_alias(target.host), target.port)
        except NotFound:
            raise Refused(Reason.NO_SUCH_SANDBOX, "no such sandbox in this space", status=502) from None
        except SpacesError as error:
            raise Refused(Reason.UNREACHABLE, error.message, status=502) from None

    async def _dial(self, target: Target, runtime: RuntimeRef) -> Connection:
        """Resolved once; every address is checked, and what was checked is dialled (threats N10, N11). What goes on
        through a proxy is looked up by the proxy."""
        opened = self._private.of(target)
        if runtime.proxy is not None and opened is None:
            through = self._proxies.named(runtime.proxy)
            found = await self._resolve(through.host, runtime)
            return await through.go_on(await self._first(found, through.port, f"the proxy {runtime.proxy}"), target)
        if opened is not None:
            address, port = opened
            found = [address] if address else await self._resolve(target.host, runtime)
        else:
            port, found = target.port, await self._resolve(target.host, runtime)
            addresses.check(found, host=target.host, is_own=self._is_own)
        return await self._first(found, port, shown(target))

    async def _first(self, found: Sequence[str], port: int, what: str) -> Connection:
        """The first address that answers. Raises Refused."""
        for address in found:
            try:
                return await self._dialer.dial(address, port)
            except RuntimeUnavailable:
                continue
        raise Refused(Reason.UNREACHABLE, f"{what} does not answer", status=502)

    async def _resolve(self, host: str, runtime: RuntimeRef) -> list[str]:
        try:
            return list(await self._resolver.addresses(host, space_id=runtime.space_id))
        except TimedOut:
            raise Refused(Reason.TOO_SLOW, f"{host} could not be looked up in time", status=504) from None
