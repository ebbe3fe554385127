"""Which Chromium a context lives in: one a space or one a runtime, kept for a while, and some ready before they are
asked for. What all drivers share; each adds how one is started, what is reaped and which walls hold."""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from weakref import WeakValueDictionary

from mcp_spaces.browser.driver.devtools import SOCKET_SUFFIX
from mcp_spaces.browser.driver.host import Host, HostedContext
from mcp_spaces.browser.driver.playwright import PlaywrightDriver
from mcp_spaces.browser.port import ContextSpec, Debugging, LiveContext
from mcp_spaces.errors import RuntimeUnavailable, SpacesError, WrongState
from mcp_spaces.sandbox.port import SandboxLimits, Wall

log = logging.getLogger(__name__)

LINGER_S = 30.0
"""How long a browser without contexts stays: whoever closes one often opens the next."""


class Hosts(ABC):
    """Implements `BrowserDriver`, but for what a technology adds."""

    name: str

    def __init__(
        self,
        *,
        playwright: PlaywrightDriver,
        folder: Path,
        limits: SandboxLimits,
        pool_size: int = 1,
        linger_s: float = LINGER_S,
    ) -> None:
        """`folder` holds the sockets: 0700, and its path short enough for one. `limits`: of a browser that runtimes
        share."""
        self._playwright = playwright
        self._limits = limits
        self._folder = folder
        self._pool_size = pool_size
        self._linger_s = linger_s
        self._hosts: dict[str, Host] = {}
        self._warm: deque[Host] = deque()
        self._warming: asyncio.Task[None] | None = None
        # One that somebody holds or waits for is in here, and no other.
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._freeing: set[asyncio.Task[None]] = set()
        self._closed = False

    # What a technology does

    @abstractmethod
    async def _make(self, limits: SandboxLimits) -> Host:
        """Get ready for one Chromium with these limits; it is started by `Host.start`. Raises RuntimeUnavailable."""

    @abstractmethod
    async def _reap(self) -> Sequence[str]:
        """What is left of a daemon that died, but for its sockets."""

    @abstractmethod
    async def walls(self) -> Sequence[Wall]: ...

    # Contexts

    async def open(self, spec: ContextSpec) -> LiveContext:
        owner = spec.runtime_id if spec.own_process else spec.space_id
        lock = self._locks.setdefault(owner, asyncio.Lock())
        async with lock:
            host = await self._host(owner, spec)
            host.opening += 1
            try:
                return await self._context(host, spec)
            finally:
                host.opening -= 1
                self._maybe_idle(host)

    async def _context(self, host: Host, spec: ContextSpec) -> HostedContext:
        live = await host.context(spec)
        host.contexts.add(live)
        # Its last step: whatever closed it, the browser may be idle now.
        live.on_left = lambda: self._maybe_idle(host)
        return live

    async def debug(self, live: LiveContext) -> Debugging:
        if not isinstance(live, HostedContext) or not live.host.own_process:
            raise WrongState(
                "Other runtimes share this browser.", hint='Launch one with isolation "process" and connect to that.'
            )
        return await live.host.pipe.invite()

    # Browsers

    async def _host(self, owner: str, spec: ContextSpec) -> Host:
        limits = spec.limits if spec.own_process else spec.limits.meet(self._limits)
        host = self._hosts.get(owner)
        if host is not None and not host.gone.done():
            host.opening += 1
            try:
                # The space's ceiling may be another one by now.
                await host.resize(limits)
            finally:
                host.opening -= 1
                self._maybe_idle(host)
            return host
        host = await self._claim_warm(limits) or await self._start(limits)
        host.own_process = spec.own_process
        self._hosts[owner] = host
        self._refill()
        return host

    async def _start(self, limits: SandboxLimits) -> Host:
        if self._closed:
            raise RuntimeUnavailable("The driver is closed.", hint="Restart the daemon.")
        host: Host | None = None
        try:
            host = await self._make(limits)
            await host.start(self._playwright, folder=self._folder)
            if self._closed:
                raise RuntimeUnavailable("The driver is closed.", hint="Restart the daemon.")
        except BaseException as error:
            if host is not None:
                # Who gave up waits for nothing any more; `aclose` does.
                await asyncio.shield(self._freed(host))
            if isinstance(error, OSError):
                # A full disk, or no descriptor left.
                raise RuntimeUnavailable(
                    f"The browser did not start: {error.strerror or error}.",
                    hint="See mcp-spaces doctor and the daemon's log.",
                ) from error
            raise
        host.gone.add_done_callback(lambda _: self._forget(host))
        return host

    def _maybe_idle(self, host: Host) -> None:
        self._stay(host)
        if not host.contexts and not host.opening and not host.gone.done() and not self._closed:
            loop = asyncio.get_running_loop()
            host.lingering = loop.call_later(0 if host.own_process else self._linger_s, self._give_up, host)

    def _stay(self, host: Host) -> None:
        if host.lingering is not None:
            host.lingering.cancel()
            host.lingering = None

    def _give_up(self, host: Host) -> None:
        if not host.contexts and not host.opening:
            host.end("nobody used it", wanted=True)

    def _forget(self, host: Host) -> None:
        """It is gone: nobody is given it any more, and what it used is freed."""
        for owner in [owner for owner, one in self._hosts.items() if one is host]:
            del self._hosts[owner]
        if host in self._warm:
            self._warm.remove(host)
        self._freed(host)

    def _freed(self, host: Host) -> asyncio.Task[None]:
        task = asyncio.ensure_future(self._discard(host))
        self._freeing.add(task)
        task.add_done_callback(self._freeing.discard)
        return task

    async def _discard(self, host: Host) -> None:
        try:
            await host.stop()
        except (SpacesError, OSError) as error:
            log.warning("a browser could not be freed: %s", error)

    # The pool

    async def _claim_warm(self, limits: SandboxLimits) -> Host | None:
        for host in list(self._warm):
            if host not in self._warm or not host.could_have(limits):
                continue
            self._warm.remove(host)
            try:
                await host.resize(limits)
            except SpacesError as error:
                log.warning("a warm browser could not be claimed: %s", error)
                host.end("it could not be claimed", wanted=True)
            except BaseException:
                host.end("nobody waits for it", wanted=True)
                raise
            if not host.gone.done():
                return host
        return None

    async def warm(self) -> None:
        if len(self._warm) < self._pool_size:
            self._refill()
            if self._warming is not None:
                await asyncio.shield(self._warming)
            if not self._warm:
                # Its reason, for whoever wants to know before the first launch.
                self._warm.append(await self._start(self._limits))

    def _refill(self) -> None:
        if self._pool_size and not self._closed and (self._warming is None or self._warming.done()):
            self._warming = asyncio.ensure_future(self._fill())

    async def _fill(self) -> None:
        try:
            while len(self._warm) < self._pool_size and not self._closed:
                self._warm.append(await self._start(self._limits))
        except SpacesError as error:
            # The next launch is cold, and says what is wrong if it still is.
            if not self._closed:
                log.warning("no browser could be kept warm: %s", error)

    # The end

    @property
    def _held(self) -> list[Host]:
        return [*self._hosts.values(), *self._warm]

    async def reap(self) -> Sequence[str]:
        ours = {host.pipe.path for host in self._held}
        for path in self._folder.glob(f"*{SOCKET_SUFFIX}"):
            if path not in ours:
                path.unlink(missing_ok=True)
        return await self._reap()

    async def aclose(self) -> None:
        self._closed = True
        if self._warming is not None:
            await asyncio.wait({self._warming})
        for host in self._held:
            host.end("the daemon stopped", wanted=True)
        # One turn of the loop: then every end has become a task that frees.
        await asyncio.sleep(0)
        while self._freeing:
            await asyncio.wait(self._freeing)
        await self._playwright.aclose()
