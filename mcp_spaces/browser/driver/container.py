"""The container driver: one Chromium a space in a hardened container without network, a context a runtime."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from pathlib import Path

from mcp_spaces.browser.driver.chromium import HEADLESS_SHELL, arguments
from mcp_spaces.browser.driver.host import Host, WayOut
from mcp_spaces.browser.driver.hosts import LINGER_S, Hosts
from mcp_spaces.browser.driver.playwright import PlaywrightDriver
from mcp_spaces.browser.port import Accept
from mcp_spaces.core.tasks import shielded
from mcp_spaces.errors import NotFound, RuntimeUnavailable, SpacesError, WrongState
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

PIECE_BYTES = 1 << 20
# Chromium's pipe is descriptors 3 and 4; a command's stream is 0 and 1.
START = f'exec {HEADLESS_SHELL} "$@" 3<&0 4>&1 0</dev/null 1>&2'


class ContainedHost(Host):
    downloads = f"{WORKSPACE}/downloads"
    program = HEADLESS_SHELL

    def __init__(
        self,
        sandboxes: SandboxDriver,
        sandbox: Sandbox,
        *,
        sandbox_id: str,
        chromium: Sequence[str],
        limits: SandboxLimits,
    ) -> None:
        super().__init__(limits)
        self.sandbox = sandbox
        self.sandbox_id = sandbox_id
        self._sandboxes = sandboxes
        self._chromium = chromium
        self._process: Process

    async def _begin(self) -> None:
        command = Command(("/bin/sh", "-c", START, "sh", *self._chromium), env={"HOME": WORKSPACE})
        self._process = await self.sandbox.start(command, output=self._on_output)
        self._watch(self._watch_process())
        self._watch(self._watch_sandbox())

    async def _write(self, content: bytes) -> None:
        try:
            await self._process.write(content)
        except WrongState:
            raise RuntimeUnavailable("The browser is gone.", hint="Launch it again.") from None

    def _on_output(self, stream: Stream, chunk: bytes) -> None:
        if stream is Stream.STDOUT:
            self._heard(chunk)
        else:
            self._said(chunk)

    async def _watch_process(self) -> None:
        with suppress(SpacesError):
            ended = await self._process.wait()
            reason = "it ran out of memory" if ended.out_of_memory else f"it exited with {ended.exit_code}"
            self.end(f"the browser crashed: {reason}")

    async def _watch_sandbox(self) -> None:
        self.end(f"the browser's container is gone: {await self.sandbox.closed()}")

    async def offer(self, accept: Accept) -> WayOut:
        return WayOut(await self.sandbox.offer_proxy(accept, port=0))

    async def withdraw(self, way: WayOut) -> None:
        await self.sandbox.withdraw_proxy(way.port)

    async def read(self, path: str) -> AsyncIterator[bytes]:
        offset = 0
        while True:
            piece = await self.sandbox.read_file(path, offset=offset, limit=PIECE_BYTES)
            if not piece.content:
                return
            offset += len(piece.content)
            yield piece.content

    async def remove(self, path: str) -> None:
        with suppress(NotFound):
            await self.sandbox.delete_file(path, recursive=True)

    async def _resize(self, limits: SandboxLimits) -> None:
        await self._sandboxes.resize(self.sandbox_id, limits)

    async def _free(self) -> None:
        await self.sandbox.stop()
        await self._sandboxes.delete_workspace(self.sandbox_id)


class ContainerDriver(Hosts):
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
        linger_s: float = LINGER_S,
    ) -> None:
        """`trusted`: see `chromium.arguments`."""
        super().__init__(playwright=playwright, folder=folder, limits=limits, pool_size=pool_size, linger_s=linger_s)
        self._sandboxes = sandboxes
        self._image = image
        self._chromium = arguments(profile=f"{WORKSPACE}/.profile", trusted=trusted)

    async def _make(self, limits: SandboxLimits) -> ContainedHost:
        sandbox_id = f"browser-{secrets.token_hex(6)}"
        try:
            sandbox = await self._sandboxes.launch(SandboxSpec(sandbox_id, self._image, limits))
        except RuntimeUnavailable as error:
            raise RuntimeUnavailable(
                f"No browser starts from {self._image}: {error.message}", hint=error.hint
            ) from error
        except BaseException:
            # Nobody knows it by its id any more, which is all that its files go by.
            with suppress(SpacesError):
                await shielded(self._sandboxes.delete_workspace(sandbox_id))
            raise
        return ContainedHost(self._sandboxes, sandbox, sandbox_id=sandbox_id, chromium=self._chromium, limits=limits)

    async def _reap(self) -> Sequence[str]:
        held = [host.sandbox_id for host in self._held if isinstance(host, ContainedHost)]
        return await self._sandboxes.reap(keep=held)

    async def walls(self) -> Sequence[Wall]:
        found = []
        for wall in await self._sandboxes.walls():
            words = f"{self._image} is missing" if wall.name == "image" and not wall.holds else wall.found
            found.append(Wall(f"browser {wall.name}", wall.holds, words, wall.mend))
        return found

    async def aclose(self) -> None:
        await super().aclose()
        await self._sandboxes.aclose()
