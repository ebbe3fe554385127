"""The container driver: one Chromium a space in a hardened container without network, a context a runtime."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mcp_spaces.browser.chromium import HEADLESS_SHELL, arguments
from mcp_spaces.browser.devtools import DevToolsPipe
from mcp_spaces.browser.events import safely
from mcp_spaces.browser.playwright import PlaywrightDriver
from mcp_spaces.browser.port import ContextSpec, Debugging, LiveContext
from mcp_spaces.errors import RuntimeUnavailable, SpacesError, WrongState
from mcp_spaces.sandbox.port import (
    WORKSPACE,
    Command,
    Process,
    Sandbox,
    SandboxDriver,
    SandboxLimits,
    SandboxSpec,
    Stream,
    Wall,
)

if TYPE_CHECKING:
    from playwright.async_api import Browser, BrowserContext

log = logging.getLogger(__name__)

PIECE_BYTES = 1 << 20
LINGER_S = 30.0
"""How long a browser without contexts stays: whoever closes one often opens the next."""
WORDS_KEPT = 20
"""Of Chromium's own stderr, in lines, for the log of a crash."""
# Chromium's pipe is descriptors 3 and 4; a command's stream is 0 and 1.
START = f'exec {HEADLESS_SHELL} "$@" 3<&0 4>&1 0</dev/null 1>&2'


class Host:
    """One Chromium in one container."""

    def __init__(self, sandbox: Sandbox, *, sandbox_id: str) -> None:
        self.sandbox = sandbox
        self.sandbox_id = sandbox_id
        self.browser: Browser
        self.pipe: DevToolsPipe
        self.contexts: set[ContainedContext] = set()
        self.own_process = False
        self.gone: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.lingering: asyncio.TimerHandle | None = None
        self._process: Process
        self._watchers: list[asyncio.Task[None]] = []
        self._words: deque[str] = deque(maxlen=WORDS_KEPT)

    async def start(self, playwright: PlaywrightDriver, *, folder: Path, trusted: Sequence[str]) -> None:
        chromium = [*arguments(profile=f"{WORKSPACE}/.profile", trusted=trusted)]
        command = Command(("/bin/sh", "-c", START, "sh", *chromium), env={"HOME": WORKSPACE})
        self.pipe = DevToolsPipe(self._write)
        self._process = await self.sandbox.start(command, output=self._on_output)
        self._watchers = [
            asyncio.create_task(self._watch_process()),
            asyncio.create_task(self._watch_sandbox()),
            asyncio.create_task(self._watch_pipe()),
        ]
        self.browser = await playwright.connect(await self.pipe.serve(folder))
        self.browser.on("disconnected", safely(lambda _: self._end("the connection to the browser broke")))

    async def _write(self, content: bytes) -> None:
        await self._process.write(content)

    def _on_output(self, stream: Stream, chunk: bytes) -> None:
        if stream is Stream.STDOUT:
            self.pipe.feed(chunk)
        else:
            self._words.extend(chunk.decode("utf-8", "replace")[:2000].splitlines())

    async def _watch_process(self) -> None:
        with suppress(SpacesError):
            ended = await self._process.wait()
            reason = "it ran out of memory" if ended.out_of_memory else f"it exited with {ended.exit_code}"
            self._end(f"the browser crashed: {reason}")

    async def _watch_sandbox(self) -> None:
        self._end(f"the browser's container is gone: {await self.sandbox.closed()}")

    async def _watch_pipe(self) -> None:
        await self.pipe.broken.wait()
        self._end("the browser sent more than is taken")

    def _end(self, reason: str) -> None:
        if not self.gone.done():
            if self._words:
                log.info("a browser ended (%s); it said: %s", reason, " | ".join(self._words))
            self.gone.set_result(reason)
            self.pipe.end()

    async def stop(self) -> None:
        if not self.gone.done():
            self.gone.set_result("it was stopped")
        if self.lingering is not None:
            self.lingering.cancel()
        for watcher in self._watchers:
            watcher.cancel()
        await self.sandbox.stop()
        await self.pipe.aclose()


class ContainedContext:
    """Implements `LiveContext`."""

    def __init__(
        self, host: Host, context: BrowserContext, *, runtime_id: str, port: int, options: Mapping[str, Any]
    ) -> None:
        """`options`: what `context` was made from."""
        self.host = host
        self.downloads_folder = f"{WORKSPACE}/downloads/{runtime_id}"
        self._context = context
        self._port = port
        self._options = {name: value for name, value in options.items() if name != "storage_state"}
        self._further: list[BrowserContext] = []
        self._over: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        context.on("close", safely(lambda _: self._end("its context was closed")))
        host.gone.add_done_callback(lambda gone: self._end(gone.result()))

    @property
    def context(self) -> BrowserContext:
        return self._context

    @property
    def browser(self) -> Browser:
        return self.host.browser

    async def another(self) -> BrowserContext:
        context = await self.host.browser.new_context(**self._options)
        self._further.append(context)
        context.on("close", safely(lambda _: self._further.remove(context)))
        return context

    def _end(self, reason: str) -> None:
        if not self._over.done():
            self._over.set_result(reason)

    async def read_file(self, name: str) -> AsyncIterator[bytes]:
        offset = 0
        while True:
            piece = await self.host.sandbox.read_file(
                f"{self.downloads_folder}/{name}", offset=offset, limit=PIECE_BYTES
            )
            if not piece.content:
                return
            offset += len(piece.content)
            yield piece.content

    async def remove_file(self, name: str) -> None:
        with suppress(SpacesError):
            await self.host.sandbox.delete_file(f"{self.downloads_folder}/{name}")

    async def closed(self) -> str:
        return await asyncio.shield(self._over)

    async def close(self) -> None:
        from playwright.async_api import Error

        self._end("it was stopped")
        self.host.contexts.discard(self)
        if self.host.gone.done():
            return
        try:
            async with asyncio.timeout(10):
                for context in (*self._further, self._context):
                    await context.close()
                await self.host.sandbox.withdraw_proxy(self._port)
                await self.host.sandbox.delete_file(self.downloads_folder, recursive=True)
        except (Error, SpacesError, TimeoutError) as error:
            log.debug("closing a context: %s", error)


class ContainerDriver:
    """`sandboxes` starts containers with the browser's image and seccomp profile; nobody else uses it."""

    name = "container"

    def __init__(
        self,
        *,
        sandboxes: SandboxDriver,
        playwright: PlaywrightDriver,
        image: str,
        folder: Path,
        limits: SandboxLimits,
        pool_size: int = 1,
        trusted: Sequence[str] = (),
    ) -> None:
        """`folder` holds the sockets: 0700, and its path short enough for one. `trusted`: see `chromium.arguments`."""
        self._sandboxes = sandboxes
        self._playwright = playwright
        self._image = image
        self._folder = folder
        self._limits = limits
        self._pool_size = pool_size
        self._trusted = trusted
        self._hosts: dict[str, Host] = {}
        self._warm: deque[Host] = deque()
        self._warming: asyncio.Task[None] | None = None
        self._locks: dict[str, asyncio.Lock] = {}
        self._freeing: set[asyncio.Task[None]] = set()
        self._closed = False

    # Contexts

    async def open(self, spec: ContextSpec) -> LiveContext:
        owner = spec.runtime_id if spec.own_process else spec.space_id
        async with self._locks.setdefault(owner, asyncio.Lock()):
            host = await self._host(owner, own_process=spec.own_process)
            return await self._context(host, spec)

    async def _context(self, host: Host, spec: ContextSpec) -> ContainedContext:
        from playwright.async_api import Error

        port = await host.sandbox.offer_proxy(spec.accept, port=0)
        try:
            options = context_options(spec, proxy=f"http://127.0.0.1:{port}")
            context = await host.browser.new_context(**options)
            live = ContainedContext(host, context, runtime_id=spec.runtime_id, port=port, options=options)
        except Error as error:
            with suppress(SpacesError):
                await host.sandbox.withdraw_proxy(port)
            raise RuntimeUnavailable(
                f"The browser gave no context: {error.message.splitlines()[0][:200]}", hint="Try again."
            ) from None
        host.contexts.add(live)
        context.on("close", safely(lambda _: self._maybe_idle(host)))
        return live

    async def debug(self, live: LiveContext) -> Debugging:
        if not isinstance(live, ContainedContext) or not live.host.own_process:
            raise WrongState(
                "Other runtimes share this browser.", hint='Launch one with isolation "process" and connect to that.'
            )
        return await live.host.pipe.invite()

    # Browsers

    async def _host(self, owner: str, *, own_process: bool) -> Host:
        host = self._hosts.get(owner)
        if host is not None and not host.gone.done():
            if host.lingering is not None:
                host.lingering.cancel()
                host.lingering = None
            return host
        while self._warm:
            host = self._warm.popleft()
            if not host.gone.done():
                break
            self._free(host)
        else:
            host = await self._start()
        host.own_process = own_process
        self._hosts[owner] = host
        host.gone.add_done_callback(lambda _: self._forget(owner, host))
        self._refill()
        return host

    async def _start(self) -> Host:
        if self._closed:
            raise RuntimeUnavailable("The driver is closed.", hint="Restart the daemon.")
        sandbox_id = f"browser-{secrets.token_hex(6)}"
        sandbox = await self._sandboxes.launch(SandboxSpec(sandbox_id, self._image, self._limits))
        host = Host(sandbox, sandbox_id=sandbox_id)
        try:
            await host.start(self._playwright, folder=self._folder, trusted=self._trusted)
        except BaseException:
            await asyncio.shield(self._discard(host))
            raise
        return host

    def _maybe_idle(self, host: Host) -> None:
        if not host.contexts and not host.gone.done() and not self._closed:
            loop = asyncio.get_running_loop()
            host.lingering = loop.call_later(0 if host.own_process else LINGER_S, self._free, host)

    def _forget(self, owner: str, host: Host) -> None:
        if self._hosts.get(owner) is host:
            del self._hosts[owner]
        self._free(host)

    def _free(self, host: Host) -> None:
        if not host.contexts or host.gone.done():
            task = asyncio.ensure_future(self._discard(host))
            self._freeing.add(task)
            task.add_done_callback(self._freeing.discard)

    async def _discard(self, host: Host) -> None:
        try:
            await host.stop()
            await self._sandboxes.delete_workspace(host.sandbox_id)
        except SpacesError as error:
            log.warning("a browser could not be freed: %s", error.message)

    # The pool

    async def warm(self) -> None:
        self._refill()
        if self._warming is not None:
            await asyncio.shield(self._warming)

    def _refill(self) -> None:
        if self._pool_size and not self._closed and (self._warming is None or self._warming.done()):
            self._warming = asyncio.ensure_future(self._fill())

    async def _fill(self) -> None:
        try:
            while len(self._warm) < self._pool_size and not self._closed:
                host = await self._start()
                self._warm.append(host)
        except SpacesError as error:
            # The next launch is cold, and says what is wrong if it still is.
            log.warning("no browser could be kept warm: %s", error.message)

    # The rest

    async def reap(self) -> Sequence[str]:
        held = [host.sandbox_id for host in (*self._hosts.values(), *self._warm)]
        return await self._sandboxes.reap(keep=held)

    async def walls(self) -> Sequence[Wall]:
        return [
            Wall(f"browser {wall.name}", wall.holds, wall.found, wall.mend) for wall in await self._sandboxes.walls()
        ]

    async def aclose(self) -> None:
        self._closed = True
        if self._warming is not None:
            with suppress(asyncio.CancelledError, Exception):
                await self._warming
        hosts = [*self._hosts.values(), *self._warm]
        self._hosts.clear()
        self._warm.clear()
        await asyncio.gather(*(self._discard(host) for host in hosts), *self._freeing, return_exceptions=True)
        await self._sandboxes.aclose()
        await self._playwright.aclose()


def context_options(spec: ContextSpec, *, proxy: str) -> dict[str, Any]:
    """What Playwright makes a context from, whichever driver asks."""
    options: dict[str, Any] = {
        "proxy": {"server": proxy},
        "viewport": spec.viewport.model_dump(),
        "accept_downloads": True,
        # One that a page leaves behind would see what is filled in later (threat B20).
        "service_workers": "block",
        "ignore_https_errors": False,
    }
    if spec.locale is not None:
        options["locale"] = spec.locale
    if spec.timezone is not None:
        options["timezone_id"] = spec.timezone
    if spec.storage is not None:
        options["storage_state"] = dict(spec.storage)
    return options
