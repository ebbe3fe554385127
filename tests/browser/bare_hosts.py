"""Browsers that are nothing but their life, so that each moment can be held."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
from playwright.async_api import Error

from mcp_spaces.browser.driver.host import Host, HostedContext, WayOut
from mcp_spaces.browser.driver.playwright import PlaywrightDriver
from mcp_spaces.browser.port import Accept, ContextSpec
from mcp_spaces.errors import RuntimeUnavailable
from mcp_spaces.sandbox.port import SandboxLimits
from tests.browser.rigs import LIMITS, PATIENCE_S
from tests.browser.test_hosts import Holder, NoneToBeHad


class Step:
    """Done at once, unless a test holds it or has it fail."""

    def __init__(self) -> None:
        self._may_go_on = asyncio.Event()
        self._may_go_on.set()
        self._fails = False
        self.waiting = self.times = 0

    def hold(self) -> None:
        self._may_go_on.clear()

    def go_on(self, *, and_fail: bool = False) -> None:
        self._fails = and_fail
        self._may_go_on.set()

    async def taken(self) -> None:
        self.waiting += 1
        self.times += 1
        try:
            await self._may_go_on.wait()
        finally:
            self.waiting -= 1
        if self._fails:
            raise RuntimeUnavailable("It fails.", hint="Try again.")


class Bare(Host):
    program = downloads = ""

    def __init__(self, limits: SandboxLimits, start: Step) -> None:
        super().__init__(limits)
        self.starting, self.opening_one, self.resizing, self.freeing = start, Step(), Step(), Step()
        self.is_freed = False

    async def start(self, _playwright: PlaywrightDriver, *, folder: Path) -> None:
        await self.starting.taken()

    async def context(self, spec: ContextSpec) -> HostedContext:
        await self.opening_one.taken()
        holder: Any = Holder()
        return HostedContext(self, holder, runtime_id=spec.runtime_id, way=WayOut(1), options={})

    async def _resize(self, limits: SandboxLimits) -> None:
        await self.resizing.taken()

    async def _free(self) -> None:
        await self.freeing.taken()
        self.is_freed = True

    async def _begin(self) -> None: ...
    async def _write(self, content: bytes) -> None: ...
    async def withdraw(self, way: WayOut) -> None: ...
    async def remove(self, path: str) -> None: ...

    async def offer(self, accept: Accept) -> WayOut:
        raise NotImplementedError

    def read(self, path: str) -> AsyncIterator[bytes]:
        raise NotImplementedError


class Stubborn(Holder):
    """A Chromium that makes no context, and a context that does not close."""

    says = "Protocol error\nwith all the rest"
    hangs = True

    async def new_context(self, **_options: object) -> None:
        await self.close()

    async def close(self) -> None:
        if self.hangs:
            await asyncio.Event().wait()
        raise Error(self.says)


class Made(Holder):
    """A context that Chromium made, and it as well."""

    def __init__(self, options: dict[str, object]) -> None:
        super().__init__()
        self.options = options
        self.made: list[Made] = []
        self.listeners: list[Any] = []

    def on(self, _event: str, listener: object) -> None:
        self.listeners.append(listener)

    async def new_context(self, **options: object) -> Made:
        self.made.append(Made(options))
        return self.made[-1]

    async def close(self) -> None:
        for listener in self.listeners:
            listener(self)


class Driven(Bare):
    """As `Bare`, with contexts that are asked of somebody."""

    context_s = 0.05
    context = Host.context

    def __init__(self, chromium: Stubborn | Made) -> None:
        super().__init__(LIMITS, Step())
        self.ways: set[int] = set()
        anything: Any = chromium
        self.browser = anything
        options = {"storage_state": {"cookies": ["of a profile"]}, "locale": "de-DE"}
        self.live = HostedContext(self, anything, runtime_id="rt_one", way=WayOut(1), options=options)

    async def offer(self, accept: Accept) -> WayOut:
        self.ways.add(1)
        return WayOut(1)

    async def withdraw(self, way: WayOut) -> None:
        self.ways.discard(way.port)


class Unused(PlaywrightDriver):
    is_closed = False

    async def aclose(self) -> None:
        self.is_closed = True


class BareDriver(NoneToBeHad):
    def __init__(self, folder: Path, *, pool_size: int = 0) -> None:
        self.playwright = Unused()
        super().__init__(playwright=self.playwright, folder=folder, limits=LIMITS, pool_size=pool_size, linger_s=0)
        self.made: list[Bare] = []
        self.starting = Step()

    async def _make(self, limits: SandboxLimits) -> Host:
        self.made.append(Bare(limits, self.starting))
        return self.made[-1]

    def ready(self) -> list[Host]:
        return list(self._warm)


@asynccontextmanager
async def bare(folder: Path, *, pool_size: int = 0) -> AsyncIterator[BareDriver]:
    driver = BareDriver(folder, pool_size=pool_size)
    with anyio.fail_after(PATIENCE_S):
        yield driver
        await driver.aclose()


def host_of(live: object) -> Host:
    assert isinstance(live, HostedContext)
    return live.host
