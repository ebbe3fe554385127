"""The driver for Docker: hardened containers, each with an agent on its attach stream."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable, Collection, Sequence
from pathlib import Path

from mcp_spaces.errors import Busy, Conflict, InvalidInput, NotFound, RuntimeUnavailable, SpacesError
from mcp_spaces.sandbox.docker import walls
from mcp_spaces.sandbox.docker.container import sizes
from mcp_spaces.sandbox.docker.engine import Engine, NoPython, Threads
from mcp_spaces.sandbox.docker.exec_fallback import ExecSandbox
from mcp_spaces.sandbox.docker.failures import image_command, mend
from mcp_spaces.sandbox.docker.latecomers import Latecomers, a_while
from mcp_spaces.sandbox.docker.launcher import Launcher
from mcp_spaces.sandbox.docker.pool import POOL_PREFIX, Pool, Profile, Warm
from mcp_spaces.sandbox.docker.reaping import Reaper
from mcp_spaces.sandbox.docker.workspace import MIN_BYTES, DiskFiles, checked_id, loop_works
from mcp_spaces.sandbox.port import Sandbox, SandboxLimits, SandboxSpec, Tenant, Wall
from mcp_spaces.sandbox.stream.attached import AttachedSandbox

THREADS = 16
AFTERWARDS_S = 0.05
"""A launch from the pool takes less. What it leaves to be done keeps two processors busy for longer: that waits until
whoever launched has been answered."""
MIN_MEMORY_BYTES = 32 << 20
MIN_PIDS = 16


class DockerDriver:
    """Runs in asyncio. Hold it with `async with`, or call `aclose`."""

    name = "docker"

    def __init__(
        self,
        *,
        instance_id: str,
        state_dir: Path,
        image: str,
        pool_size: int = 1,
        docker_url: str | None = None,
        kernel_disk: bool = True,
        tenant: Tenant = Tenant.SANDBOX,
        shortcut: bool = True,
        later: Callable[[], Awaitable[object]] = a_while,
        log: logging.Logger,
    ) -> None:
        """`image` is what `walls` and `warm` look at; `launch` takes the spec's. `pool_size` of 0: no warm sandboxes.
        `kernel_disk` of False: plain volumes without a limit of size, also where the kernel could enforce one.
        `tenant`: what runs inside, and so which of the shipped seccomp profiles holds. `shortcut` of False: frames stay
        on Docker's attach stream, also where there is a shorter way (`shortcut.py`). When `later` ends,
        counted from the first reap, what the engine made for a former daemon meanwhile is removed too.
        """
        self.instance_id = checked_id(instance_id)
        self._image = image
        self._log = log
        self._engine = Engine(docker_url, log=log)
        self._disks = DiskFiles(state_dir / "workspaces")
        self._loop_missing = loop_works() if kernel_disk else "switched off"
        self._thread = Threads(THREADS)
        driver_id = secrets.token_hex(6)
        self._latecomers = Latecomers(
            engine=self._engine,
            instance_id=instance_id,
            driver_id=driver_id,
            thread=self._thread,
            later=later,
            log=log,
        )
        # A plain volume cannot be renamed, so a warm sandbox's could not become a runtime's.
        self._launcher = Launcher(
            instance_id=instance_id,
            driver_id=driver_id,
            engine=self._engine,
            disks=self._disks,
            kernel_disk=not self._loop_missing,
            thread=self._thread,
            log=log,
            tenant=tenant,
            shortcut=shortcut,
        )
        self._reaper = Reaper(engine=self._engine, disks=self._disks, launcher=self._launcher, instance_id=instance_id)
        self._pool = Pool(size=0 if self._loop_missing else pool_size, make=self._make_warm, log=log)
        self._held: dict[str, AttachedSandbox | ExecSandbox] = {}
        self._launching: set[str] = set()
        self._without_python: set[str] = set()
        self._tasks: set[asyncio.Task[Sandbox]] = set()
        self._naming: set[asyncio.Task[None]] = set()
        self._abandoned: dict[str, asyncio.Task[None]] = {}
        self._closed = False

    async def __aenter__(self) -> DockerDriver:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    # Launching

    async def launch(self, spec: SandboxSpec) -> Sandbox:
        checked_id(spec.runtime_id)
        if spec.runtime_id.startswith(POOL_PREFIX):
            raise InvalidInput(f"A runtime id may not begin with {POOL_PREFIX!r}.", hint="Choose another.")
        _check(spec.limits)
        if self._closed:
            raise RuntimeUnavailable("The driver is closed.", hint="Restart the daemon.")
        if abandoned := self._abandoned.get(spec.runtime_id):
            await asyncio.shield(abandoned)
        held = self._held.get(spec.runtime_id)
        if held is not None and not held.alive:
            # It died, or is being stopped: what is left of it goes first.
            await held.stop()
        if spec.runtime_id in self._held or spec.runtime_id in self._launching:
            raise Conflict("This runtime is running already.", hint="Stop it first.")
        self._launching.add(spec.runtime_id)
        # A task of its own, so that a caller who goes away leaves a whole sandbox to be stopped and never half of one.
        task = asyncio.ensure_future(self._launch(spec))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            self._abandoned[spec.runtime_id] = asyncio.ensure_future(self._discard(task, spec.runtime_id))
            raise

    async def _discard(self, task: asyncio.Task[Sandbox], runtime_id: str) -> None:
        """Nobody waits for this launch any more."""
        try:
            await (await task).stop()
        except SpacesError as error:
            self._log.info("an abandoned launch failed: %s", error)
        finally:
            del self._abandoned[runtime_id]

    async def _launch(self, spec: SandboxSpec) -> Sandbox:
        try:
            known = await self._thread(lambda: self._has_workspace(spec.runtime_id))
            sandbox = await self._launched(spec, known=known)
            sandbox.new_workspace = not known
            return sandbox
        finally:
            self._launching.discard(spec.runtime_id)

    def _has_workspace(self, runtime_id: str) -> bool:
        if self._loop_missing:
            return self._engine.has_volume(self._launcher.name_of(runtime_id))
        return self._disks.path(runtime_id).exists()

    async def _launched(self, spec: SandboxSpec, *, known: bool) -> Sandbox:
        """From the pool where one fits, else cold. `known`: there is a workspace already, so it has to be that one."""
        image_id = await self._launcher.image_id(spec.image)
        profile = Profile(image_id, spec.limits)
        if image_id in self._without_python:
            return await self._launch_without_python(profile, spec.runtime_id)
        warm = None if known or self._loop_missing else self._pool.take(profile)
        sandbox: AttachedSandbox | None = None
        if warm is not None:
            sandbox = await self._claim(warm, spec.runtime_id)
        if sandbox is None:
            try:
                sandbox = await self._launch_cold(profile, spec.runtime_id, keep_disk=True)
            except NoPython:
                self._without_python.add(image_id)
                return await self._launch_without_python(profile, spec.runtime_id)
        self._held[spec.runtime_id] = sandbox
        self._pool.want(profile, after_s=AFTERWARDS_S)
        return sandbox

    async def _launch_cold(self, profile: Profile, runtime_id: str, *, keep_disk: bool) -> AttachedSandbox:
        return await self._launcher.launch(
            profile, runtime_id, free=lambda container_id: self._free(container_id, runtime_id, keep_disk=keep_disk)
        )

    async def _launch_without_python(self, profile: Profile, runtime_id: str) -> Sandbox:
        sandbox = await self._launcher.launch_without_python(
            profile, runtime_id, free=lambda container_id: self._free(container_id, runtime_id, keep_disk=True)
        )
        self._held[runtime_id] = sandbox
        return sandbox

    async def warm(self, limits: SandboxLimits | None = None) -> None:
        """Fill the pool for the default image before anybody asks; returns when it is filled."""
        image_id = await self._launcher.image_id(self._image)
        self._pool.want(Profile(image_id, limits or SandboxLimits()))
        await self._pool.filled()

    async def _make_warm(self, profile: Profile) -> Warm:
        pool_id = POOL_PREFIX + secrets.token_hex(6)
        try:
            return Warm(pool_id, await self._launch_cold(profile, pool_id, keep_disk=False))
        except NoPython:
            raise RuntimeUnavailable("The image has no python3.", hint="It is run without a pool.") from None

    async def _claim(self, warm: Warm, runtime_id: str) -> AttachedSandbox | None:
        """The warm sandbox becomes the runtime's. None when that failed: then nothing is left of it."""

        try:
            await warm.sandbox.ping()
            self._disks.rename(warm.pool_id, runtime_id)
        except (SpacesError, OSError) as error:
            self._log.warning("a warm sandbox could not be claimed: %s", error)
            await warm.sandbox.stop()
            return None
        container_id = warm.sandbox.container_id
        warm.sandbox.adopt(lambda: self._free(container_id, runtime_id, keep_disk=True))
        naming = asyncio.ensure_future(self._name(container_id, runtime_id))
        self._naming.add(naming)
        naming.add_done_callback(self._naming.discard)
        return warm.sandbox

    async def _name(self, container_id: str, runtime_id: str) -> None:
        """For people who look at the engine. Nobody waits for it: a container is found by its id, or by its labels."""
        await asyncio.sleep(AFTERWARDS_S)
        held = self._held.get(runtime_id)
        if held is None or held.container_id != container_id:
            return
        try:
            await self._thread(lambda: self._engine.rename(container_id, self._launcher.name_of(runtime_id)))
        except SpacesError as error:
            self._log.info("a container keeps its name from the pool: %s", error)

    async def resize(self, runtime_id: str, limits: SandboxLimits) -> None:
        _check(limits)
        held = self._held.get(runtime_id)
        if held is None:
            raise NotFound("No such sandbox runs.", hint="Start the runtime again.")
        await self._thread(lambda: self._engine.update(held.container_id, sizes(limits)))

    # Freeing

    async def _free(self, container_id: str, runtime_id: str, *, keep_disk: bool) -> None:
        try:
            await self._thread(lambda: self._launcher.free(container_id, runtime_id, remove_disk=not keep_disk))
        finally:
            held = self._held.get(runtime_id)
            if held is not None and held.container_id == container_id:
                del self._held[runtime_id]

    async def delete_workspace(self, runtime_id: str) -> None:
        checked_id(runtime_id)
        if abandoned := self._abandoned.get(runtime_id):
            # Nobody waits for that launch any more, but until it has ended it may still make the files.
            await asyncio.shield(abandoned)
        held = self._held.get(runtime_id)
        if held is not None:
            await held.stop()
        if runtime_id in self._launching:
            raise Busy("This runtime is being started.", hint="Try again in a moment.")
        if self._loop_missing:
            await self._thread(lambda: self._engine.remove_volume(self._launcher.name_of(runtime_id)))
        await self._thread(lambda: self._disks.delete(runtime_id))

    async def reap(self, *, keep: Collection[str]) -> Sequence[str]:
        kept = set(keep)
        for runtime_id, sandbox in list(self._held.items()):
            if runtime_id not in kept:
                await sandbox.stop()
        ours = {sandbox.container_id for sandbox in self._held.values()} | set(self._pool.containers)
        busy = set(self._held) | self._launching | set(self._pool.held)
        filling = bool(self._launching) or self._pool.busy
        removed = await self._thread(lambda: self._reaper.reap(kept, ours=ours, busy=busy, filling=filling))
        self._latecomers.expect()
        return sorted(removed)

    async def aclose(self) -> None:
        self._closed = True
        await self._latecomers.aclose()
        if under_way := [*self._tasks, *self._abandoned.values(), *self._naming]:
            await asyncio.wait(under_way)
        await self._pool.aclose()
        stops = [asyncio.ensure_future(sandbox.stop()) for sandbox in list(self._held.values())]
        stops += self._abandoned.values()
        if stops:
            await asyncio.wait(stops)
        self._engine.close()

    async def walls(self) -> Sequence[Wall]:
        found: list[Wall] = []
        rootless = False
        try:
            host = await self._thread(self._engine.host_facts)
            found += walls.engine_walls(host, SandboxLimits())
            rootless = walls.is_rootless(host)
        except SpacesError as error:
            found.append(Wall("engine", False, error.message, mend(error)))
        else:
            found.append(await self._image_wall())
        found.append(self._disk_wall(rootless=rootless))
        return found

    def _disk_wall(self, *, rootless: bool) -> Wall:
        if self._loop_missing:
            mended_by = "run the daemon as root; apt install e2fsprogs"
            return Wall("disk", False, f"no disk limit: {self._loop_missing}", mended_by)
        if rootless:
            return Wall(
                "disk", False, "a rootless engine mounts no disk of root's", "run the daemon as the engine's user"
            )
        return Wall("disk", True, "each workspace is a file system of its own size")

    async def _image_wall(self) -> Wall:
        try:
            image_id = await self._launcher.image_id(self._image)
        except SpacesError as error:
            return Wall("image", False, error.message, image_command(self._image))
        return Wall("image", True, f"{self._image} is {image_id[:19]}")


def _check(limits: SandboxLimits) -> None:
    """Raises InvalidInput."""
    if limits.memory_bytes < MIN_MEMORY_BYTES or limits.pids < MIN_PIDS or not 0.01 <= limits.cpu_cores <= 1024:
        raise InvalidInput(
            f"A sandbox needs {MIN_MEMORY_BYTES >> 20} MiB of memory, {MIN_PIDS} processes and 0.01 cores.",
            hint="Raise the limit.",
        )
    if limits.disk_bytes < MIN_BYTES:
        raise InvalidInput(f"A sandbox's disk has at least {MIN_BYTES >> 20} MiB.", hint="Raise the limit.")
