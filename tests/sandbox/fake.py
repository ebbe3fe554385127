"""A sandbox driver without a sandbox, for tests of other rooms: the real agent, as a plain process in a folder.

Commands run on this machine with the rights of the tests. It keeps the contract, and has no walls at all.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import shutil
import socket
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

import anyio
import anyio.to_thread

from mcp_spaces.errors import Conflict, RuntimeUnavailable
from mcp_spaces.sandbox.docker.delivery import BOOTSTRAP, bundle
from mcp_spaces.sandbox.docker.workspace import checked_id
from mcp_spaces.sandbox.port import Connection, Sandbox, SandboxLimits, SandboxSpec, Wall
from mcp_spaces.sandbox.stream.agent_stream import AgentStream
from mcp_spaces.sandbox.stream.attached import AttachedSandbox

FAKE_IMAGE = "fake"
LAST_AGENTS_S = 20


class FakeSandbox(AttachedSandbox):
    """All fakes share this machine's loopback, so none can have the port that it is asked for."""

    async def offer_proxy(
        self,
        accept: Callable[[Connection], None],
        *,
        environment: Callable[[], Mapping[str, str]] | None = None,
        port: int,
    ) -> int:
        return await super().offer_proxy(accept, environment=environment, port=0)


class FakeDriver:
    """Workspaces are folders below `folder`. `launches` counts; `images` are those that are there."""

    name = "fake"

    def __init__(self, folder: Path, *, images: Collection[str] = (FAKE_IMAGE,)) -> None:
        self.folder = folder.resolve()
        self.images = images
        self.launches = 0
        self._held: dict[str, AttachedSandbox] = {}
        self._lock = -1
        self._log = logging.getLogger("tests.sandbox.fake")

    async def _after_the_last_daemon(self) -> None:
        """Containers end with their daemon, before the next one starts; so do these: each agent holds a lock."""
        if self._lock >= 0:
            return
        lock = os.open(self.folder.with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o600)
        with anyio.fail_after(LAST_AGENTS_S):
            await anyio.to_thread.run_sync(fcntl.flock, lock, fcntl.LOCK_EX, abandon_on_cancel=True)
        fcntl.flock(lock, fcntl.LOCK_SH)
        self._lock = lock

    async def launch(self, spec: SandboxSpec) -> Sandbox:
        checked_id(spec.runtime_id)
        self.folder.mkdir(parents=True, exist_ok=True)
        await self._after_the_last_daemon()
        if spec.image not in self.images:
            raise RuntimeUnavailable(f"The image {spec.image} is missing.", hint="Build it with `make image`.")
        held = self._held.get(spec.runtime_id)
        if held is not None and not held.alive:
            await held.stop()
        if spec.runtime_id in self._held:
            raise Conflict("This runtime is running already.", hint="Stop it first.")
        workspace = self.folder / spec.runtime_id
        known = workspace.exists()
        workspace.mkdir(parents=True, exist_ok=True)
        self.launches += 1
        ours, theirs = socket.socketpair()
        with theirs:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-I", "-S", "-u", "-c", BOOTSTRAP, stdin=theirs.fileno(), stdout=theirs.fileno(), cwd=workspace,
                env={"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(workspace), "LANG": "C.UTF-8"},
                pass_fds=(self._lock,),
            )  # fmt: skip
        ours.setblocking(False)
        transport, stream = await asyncio.get_running_loop().create_unix_connection(
            lambda: AgentStream(log=self._log, multiplexed=False), sock=ours
        )
        transport.write(bundle(str(workspace)))
        sandbox = FakeSandbox(
            container_id=f"fake-{process.pid}",
            image_id=spec.image,
            stream=stream,
            free=lambda: self._free(spec.runtime_id, process),
        )
        sandbox.new_workspace = not known
        await stream.hello
        self._held[spec.runtime_id] = sandbox
        return sandbox

    async def resize(self, runtime_id: str, limits: SandboxLimits) -> None:
        """It has no limits."""

    async def _free(self, runtime_id: str, process: asyncio.subprocess.Process) -> None:
        await process.wait()
        self._held.pop(runtime_id, None)

    async def delete_workspace(self, runtime_id: str) -> None:
        checked_id(runtime_id)
        if runtime_id in self._held:
            await self._held[runtime_id].stop()
        shutil.rmtree(self.folder / runtime_id, ignore_errors=True)

    async def reap(self, *, keep: Collection[str]) -> Sequence[str]:
        self.folder.mkdir(parents=True, exist_ok=True)
        await self._after_the_last_daemon()
        workspaces = {path.name for path in self.folder.iterdir()} if self.folder.exists() else set()
        removed = sorted((workspaces | set(self._held)) - set(keep))
        for runtime_id in removed:
            await self.delete_workspace(runtime_id)
        return removed

    async def walls(self) -> Sequence[Wall]:
        return [Wall("fake", False, "commands run on this machine, without a sandbox", "use the Docker driver")]

    async def aclose(self) -> None:
        for sandbox in list(self._held.values()):
            await sandbox.stop()
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1
