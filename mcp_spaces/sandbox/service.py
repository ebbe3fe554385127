"""The sandboxes of this daemon: live objects by runtime id, and their rows kept true to what really runs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from mcp_spaces.core.ids import Clock
from mcp_spaces.core.redaction import Redactor
from mcp_spaces.core.tasks import shielded
from mcp_spaces.network.model import RuntimeRef
from mcp_spaces.network.port import RuntimeGateway
from mcp_spaces.runs.port import Artifacts
from mcp_spaces.sandbox.batch.store import PausedBatches
from mcp_spaces.sandbox.images import Images, Shell, shell_of
from mcp_spaces.sandbox.jobs import Jobs
from mcp_spaces.sandbox.output import Capture
from mcp_spaces.sandbox.port import Sandbox, SandboxDriver, SandboxLimits, SandboxSpec
from mcp_spaces.spaces.live_runtimes import LiveRuntimes
from mcp_spaces.spaces.model import Runtime, RuntimeKind
from mcp_spaces.spaces.port import Runtimes, Spaces

log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class Live:
    """A sandbox that runs. `shell` is bash where the image has it: policy reads commands as bash does; `run_id` is
    the run that started it. `files_lost`: it was started again, and the workspace that it had was gone. `editing`:
    edits of files come one after the other, so that those of one message to one file all apply."""

    sandbox: Sandbox
    shell: Shell
    run_id: str = ""
    files_lost: bool = False
    editing: asyncio.Lock = field(default_factory=asyncio.Lock)


class SandboxService(LiveRuntimes[Live]):
    """Implements `RuntimeControl` and `LiveSandboxes`."""

    kind = RuntimeKind.SANDBOX
    again = "starts it again; its files are kept."

    def __init__(
        self,
        *,
        driver: SandboxDriver,
        runtimes: Runtimes,
        spaces: Spaces,
        artifacts: Artifacts,
        jobs: Jobs,
        batches: PausedBatches,
        images: Images,
        clock: Clock,
        announce: Callable[[str], None],
        gateway: RuntimeGateway | None = None,
    ) -> None:
        """Without a gateway no sandbox has a network."""
        super().__init__(runtimes=runtimes, spaces=spaces, clock=clock, announce=announce)
        self.artifacts = artifacts
        self.jobs = jobs
        self.batches = batches
        self.images = images
        self._driver = driver
        self._gateway = gateway
        self._reaped = False
        self._reaping = asyncio.Lock()
        self._shells: dict[str, Shell] = {}
        """By image id."""

    # What runs

    def live(self, runtime_id: str) -> Sandbox:
        return self.started(runtime_id).sandbox

    def launched_by(self, runtime_id: str) -> str:
        """The run that started what runs there; empty when nothing does."""
        live = self._live.get(runtime_id)
        return "" if live is None else live.run_id

    def capture(self, redactor: Redactor) -> Capture:
        return Capture(self.artifacts.spool, redactor)

    def is_busy(self, space_id: str) -> bool:
        return any(self.jobs.is_busy(one.id) for one in self._rows(space_id))

    # Starting

    async def start_new(self, runtime: Runtime, *, space_version: int, run_id: str = "") -> tuple[Runtime, Live]:
        """Whatever is raised, nothing of it is left."""
        return await self._start_new(runtime, partial(self._launch, run_id=run_id), space_version=space_version)

    async def start_again(
        self, runtime_id: str, change: Callable[[Runtime], Runtime], *, run_id: str = ""
    ) -> tuple[Runtime, Live]:
        """On its files; on an empty workspace where they are gone, as after a backup that was put back elsewhere.

        Raises Conflict when it runs already. When starting fails, the row says FAILED and why.
        """
        started, live = await self._start_again(runtime_id, change, partial(self._launch, run_id=run_id))
        live.files_lost = live.sandbox.new_workspace
        if live.files_lost:
            log.warning("sandbox %s starts with an empty workspace: the one that it had is gone", runtime_id)
        return started, live

    async def _launch(self, runtime: Runtime, *, run_id: str) -> Live:
        # One after the other: a runtime that is stored after the rows were read is nobody's to a reap under way.
        async with self._reaping:
            if not self._reaped:
                await self._reap()
        limits = runtime.ceiling.limits
        spec = SandboxSpec(
            runtime.id,
            runtime.image,
            SandboxLimits(limits.cpu_cores, limits.memory_bytes, limits.disk_bytes, limits.pids),
        )
        sandbox = await self._driver.launch(spec)
        try:
            shell = await self._shell_of(sandbox)
            if self._gateway is not None:
                await self._gateway.attach(RuntimeRef(runtime.id, runtime.space_id, runtime.alias), sandbox)
        except BaseException:
            await shielded(sandbox.stop())
            raise
        return Live(sandbox, shell, run_id)

    async def _shell_of(self, sandbox: Sandbox) -> Shell:
        """Asked of an image's first sandbox: the others have the same files and begin with the same environment."""
        shell = self._shells.get(sandbox.image_id)
        if shell is None:
            shell = self._shells[sandbox.image_id] = await shell_of(sandbox)
        return shell

    # Stopping

    async def aclose(self) -> None:
        await super().aclose()
        await self.jobs.aclose()
        await self._driver.aclose()

    async def _closed(self, live: Live) -> str:
        return await live.sandbox.closed()

    async def _close(self, live: Live) -> None:
        await live.sandbox.stop()

    async def _end(self, runtime_id: str, live: Live | None) -> None:
        for job in self.jobs.of_runtime(runtime_id):
            job.stopping = True
        try:
            await super()._end(runtime_id, live)
        finally:
            await self.jobs.end_all(runtime_id)

    async def _broke_off(self, runtime_id: str, live: Live) -> None:
        await self.jobs.end_all(runtime_id)

    async def _erase_files(self, runtime_id: str) -> None:
        try:
            await self._driver.delete_workspace(runtime_id)
        finally:
            self.jobs.forget(runtime_id)

    def _not_ended(self) -> None:
        # It is looked for before the next start.
        self._reaped = False

    def _cut_off(self, runtime_id: str) -> None:
        if self._gateway is not None:
            self._gateway.detach(runtime_id)

    async def _reap(self) -> None:
        removed = await self._driver.reap(keep={one.id for one in self.runtimes.all(kind=self.kind)})
        self._reaped = True
        if removed:
            log.info("reaped %d containers and workspaces that nobody owned", len(removed))
