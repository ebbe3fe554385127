"""From a profile to a proven sandbox: create, attach, start, prove. Either all of it or nothing is left behind."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from mcp_spaces.errors import NotFound, RuntimeUnavailable, SpacesError
from mcp_spaces.resources import resource
from mcp_spaces.sandbox.docker import shortcut, walls
from mcp_spaces.sandbox.docker.container import INSTANCE_LABEL, Disk, Intent, differences, request
from mcp_spaces.sandbox.docker.delivery import COMMAND, bundle
from mcp_spaces.sandbox.docker.engine import Engine, Hijacked, Threads
from mcp_spaces.sandbox.docker.exec_fallback import ExecSandbox
from mcp_spaces.sandbox.docker.exec_process import connected
from mcp_spaces.sandbox.docker.exec_scripts import MAIN
from mcp_spaces.sandbox.docker.exec_shell import ExecShell
from mcp_spaces.sandbox.docker.failures import missing
from mcp_spaces.sandbox.docker.pool import Profile
from mcp_spaces.sandbox.docker.workspace import Attached, DiskFiles
from mcp_spaces.sandbox.port import Tenant
from mcp_spaces.sandbox.stream.agent_stream import AgentStream
from mcp_spaces.sandbox.stream.attached import AttachedSandbox

HELLO_TIMEOUT_S = 20.0
DETACH_TIMEOUT_S = 10.0

Free = Callable[[str], Awaitable[None]]
"""Called once with the container's id when a sandbox is stopped."""


@dataclass(slots=True)
class Prepared:
    """A runtime's disk, ready to be mounted. `made`: it did not exist before, and goes if the launch fails."""

    disk: Disk
    attached: Attached | None = None
    made: bool = False


class Launcher:
    """`kernel_disk`: workspaces are file systems of their own size; otherwise plain volumes without a limit.
    `tenant` chooses among the shipped seccomp profiles; `shortcut`: past the engine, where that is possible."""

    def __init__(
        self,
        *,
        instance_id: str,
        driver_id: str,
        engine: Engine,
        disks: DiskFiles,
        kernel_disk: bool,
        thread: Threads,
        log: logging.Logger,
        tenant: Tenant = Tenant.SANDBOX,
        shortcut: bool = True,
    ) -> None:
        self._tenant = tenant
        self._shortcut = shortcut
        self._instance_id = instance_id
        self._driver_id = driver_id
        self._engine = engine
        self._disks = disks
        self._kernel_disk = kernel_disk
        self._thread = thread
        self._log = log
        self._gateways: list[str] | None = None
        self._seccomp: str | None = None

    def name_of(self, runtime_id: str) -> str:
        """What its container is called, and its volume where that has a name."""
        return f"mcp-spaces-{self._instance_id}-{runtime_id}"

    async def image_id(self, image: str) -> str:
        """Raises RuntimeUnavailable: an image is never pulled."""

        def ask() -> str:
            if self._gateways is None:
                self._gateways = self._engine.gateways()
            try:
                return self._engine.image_id(image)
            except NotFound:
                raise missing(image) from None

        return await self._thread(ask)

    async def launch(self, profile: Profile, runtime_id: str, *, free: Free) -> AttachedSandbox:
        """Raises RuntimeUnavailable, DiskFull, Busy, and NoPython when the image cannot run the agent."""
        async with self._container(profile, runtime_id, COMMAND) as (intent, container_id, hijacked):
            stream = await self._stream(hijacked)
            sandbox = AttachedSandbox(
                container_id=container_id,
                image_id=profile.image_id,
                stream=stream,
                free=lambda: free(container_id),
            )
            try:
                await self._thread(lambda: self._engine.start(container_id))
                await self._prove(sandbox, stream, intent)
            except BaseException:
                stream.close("it was not started")
                raise
            return sandbox

    async def launch_without_python(self, profile: Profile, runtime_id: str, *, free: Free) -> ExecSandbox:
        """The same container, with a shell that only waits. Raises RuntimeUnavailable, DiskFull, Busy."""
        async with self._container(profile, runtime_id, ("/bin/sh", "-c", MAIN)) as (intent, container_id, hijacked):
            life = await connected(hijacked, output=lambda *_: None, terminal=False)
            shell = ExecShell(
                container_id=container_id, engine=self._engine, life=life, thread=self._thread, log=self._log
            )
            sandbox = ExecSandbox(
                container_id=container_id, image_id=profile.image_id, shell=shell, free=lambda: free(container_id)
            )
            try:
                await self._thread(lambda: self._engine.start(container_id))
                inspected = await self._thread(lambda: self._engine.inspect(container_id))
                facts = await sandbox.facts()
                broken = walls.judge(facts, intent.limits, kernel_disk=self._kernel_disk, sockets=False)
                self._refuse(broken + differences(intent, inspected))
            except BaseException:
                shell.close("it was not started")
                raise
            return sandbox

    def free(self, container_id: str, runtime_id: str, *, remove_disk: bool) -> None:
        """Blocking. Never raises: what could not be removed is found by its label, at the next reap."""
        try:
            if container_id:
                self._engine.remove(container_id)
        except SpacesError as error:
            self._log.warning("a container could not be removed: %s", error)
        if remove_disk:
            self._disks.delete(runtime_id)

    def let_go(self) -> None:
        """Blocking. Remove the mounts of disks that no container has any more: an engine that was killed forgets whose
        they were, and newer ones (seen with 26.1) keep them mounted. A volume that is in use refuses to go."""
        for volume in self._engine.volumes(f"{INSTANCE_LABEL}={self._instance_id}"):
            if volume["Name"].startswith(self.name_of("")):
                continue
            with suppress(SpacesError):
                self._engine.remove_volume(volume["Name"])

    @asynccontextmanager
    async def _container(
        self, profile: Profile, runtime_id: str, command: Sequence[str]
    ) -> AsyncIterator[tuple[Intent, str, Hijacked]]:
        """Created and attached, not started. Whatever fails inside takes it away again."""
        prepared = await self._thread(lambda: self._prepare(profile, runtime_id))
        intent = Intent(
            instance_id=self._instance_id,
            driver_id=self._driver_id,
            runtime_id=runtime_id,
            image_id=profile.image_id,
            limits=profile.limits,
            disk=prepared.disk,
            seccomp=self._profile(),
            command=command,
        )
        container_id = ""
        try:
            container_id = await self._thread(
                lambda: self._engine.create(request(intent), name=self.name_of(runtime_id))
            )
            yield intent, container_id, await self._thread(lambda: self._engine.attach(container_id))
        except BaseException:
            await self._thread(lambda: self.free(container_id, runtime_id, remove_disk=prepared.made))
            raise
        finally:
            if prepared.attached is not None:
                # Mounted by now, or not wanted any more.
                prepared.attached.release()

    def _prepare(self, profile: Profile, runtime_id: str) -> Prepared:
        if not self._kernel_disk:
            return Prepared(Disk(volume=self.name_of(runtime_id)))
        made = self._disks.make(runtime_id, profile.limits.disk_bytes)
        try:
            if self._disks.is_attached(runtime_id):
                self.let_go()
                self._disks.wait_until_detached(runtime_id, timeout_s=DETACH_TIMEOUT_S)
            attached = self._disks.attach(runtime_id)
        except BaseException:
            if made:
                self._disks.delete(runtime_id)
            raise
        return Prepared(Disk(device=attached.device), attached, made)

    async def _stream(self, hijacked: Hijacked) -> AgentStream:
        # Nothing came early: what will talk over it is not started yet.
        stream = AgentStream(log=self._log)
        transport = await hijacked.carry(stream)
        # Waits in the pipe for the Python that is about to start.
        transport.write(bundle())
        return stream

    async def _prove(self, sandbox: AttachedSandbox, stream: AgentStream, intent: Intent) -> None:
        """Walls as seen from inside, and the configuration as the engine has it. Raises RuntimeUnavailable."""
        try:
            async with asyncio.timeout(HELLO_TIMEOUT_S):
                await asyncio.shield(stream.hello)
                facts, inspected = await asyncio.gather(
                    sandbox.facts(walls.probed_addresses(self._gateways or ())),
                    self._thread(lambda: self._engine.inspect(sandbox.container_id)),
                )
        except TimeoutError:
            raise RuntimeUnavailable(
                "The sandbox did not start in time.", hint="Is the host overloaded? Try again."
            ) from None
        broken = walls.judge(facts, intent.limits, kernel_disk=self._kernel_disk)
        self._refuse(broken + differences(intent, inspected))
        if self._shortcut:
            await shortcut.take(sandbox, int(inspected["State"]["Pid"]))

    def _refuse(self, broken: Sequence[str]) -> None:
        if broken:
            self._log.error("a sandbox was destroyed, since walls are missing: %s", "; ".join(broken))
            raise RuntimeUnavailable(
                f"The sandbox was destroyed before use, since a wall is missing: {broken[0]}.",
                hint="Run `mcp-spaces doctor`.",
            )

    def _profile(self) -> str:
        if self._seccomp is None:
            self._seccomp = resource(f"{self._tenant}/seccomp.json").read_text("utf-8")
        return self._seccomp
