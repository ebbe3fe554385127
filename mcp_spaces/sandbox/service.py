"""The sandboxes of this daemon: live objects by runtime id, and their rows kept true to what really runs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from weakref import WeakValueDictionary

import anyio
import anyio.lowlevel

from mcp_spaces.core.ids import Clock
from mcp_spaces.core.limits import Limits
from mcp_spaces.core.redaction import Redactor
from mcp_spaces.core.scope import covers
from mcp_spaces.core.tasks import shielded, side_by_side
from mcp_spaces.errors import Conflict, InvalidInput, NotFound, RuntimeUnavailable, SpacesError, WrongState
from mcp_spaces.network.model import RuntimeRef
from mcp_spaces.network.port import RuntimeGateway
from mcp_spaces.runs.port import Artifacts
from mcp_spaces.sandbox.batch.store import PausedBatches
from mcp_spaces.sandbox.jobs import Jobs
from mcp_spaces.sandbox.output import Capture
from mcp_spaces.sandbox.port import Command, Sandbox, SandboxDriver, SandboxLimits, SandboxSpec
from mcp_spaces.spaces.model import Runtime, RuntimeKind, RuntimeState, Space, SpaceState
from mcp_spaces.spaces.port import Runtimes, Spaces

log = logging.getLogger(__name__)

BASH, SH = "/bin/bash", "/bin/sh"
PROBE_S = 10.0
USUAL_BASH, SET_UP_BASH = 10, 11
WHICH_SHELL = (
    f"test -x {BASH} || exit 1; env | grep -q -e ^BASH_ENV= -e ^BASH_FUNC_ && exit {SET_UP_BASH}; exit {USUAL_BASH}"
)


@dataclass(frozen=True, slots=True)
class Images:
    """What sandboxes may run on: `default`, and `others` that the operator named."""

    default: str
    others: tuple[str, ...] = ()

    def choose(self, asked: str | None) -> str:
        """Raises InvalidInput: nothing is pulled because an agent asked."""
        if asked is None or asked in (self.default, *self.others):
            return asked or self.default
        known = ", ".join((self.default, *self.others))
        raise InvalidInput("That image is not among the operator's.", hint=f"Images: {known}.")


@dataclass(frozen=True, slots=True)
class Shell:
    """`may_be_left_out`: nothing in the image's environment changes what bash makes of a plain command."""

    path: str
    may_be_left_out: bool

    @property
    def is_bash(self) -> bool:
        return self.path == BASH


@dataclass(slots=True, eq=False)
class Live:
    """A sandbox that runs. `shell` is bash where the image has it: policy reads commands as bash does; `run_id` is
    the run that started it. `files_lost`: it was started again, and the workspace that it had was gone."""

    sandbox: Sandbox
    shell: Shell
    run_id: str = ""
    files_lost: bool = False
    watcher: asyncio.Task[None] | None = field(default=None)


class SandboxService:
    """Implements `RuntimeControl` and `LiveSandboxes`. `announce` is told the id of each space that changed.

    Call `reconcile` before the first call and `aclose` after the last one. One lock a runtime: what starts, stops
    and deletes it comes one after the other, and whoever comes later finds the state that the one before left.
    """

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
        self.runtimes = runtimes
        self.artifacts = artifacts
        self.jobs = jobs
        self.batches = batches
        self.images = images
        self._driver = driver
        self._spaces = spaces
        self._clock = clock
        self._announce = announce
        self._gateway = gateway
        self._live: dict[str, Live] = {}
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        """Each for as long as somebody holds it or waits for it."""
        self._reaped = False
        self._reaping = asyncio.Lock()
        self._shells: dict[str, Shell] = {}
        """By image id."""

    # What runs

    def live(self, runtime_id: str) -> Sandbox:
        return self.started(runtime_id).sandbox

    def started(self, runtime_id: str) -> Live:
        """Raises NotFound, WrongState (stopped, failed or not yet started) or RuntimeUnavailable."""
        live = self._live.get(runtime_id)
        if live is not None:
            return live
        runtime = self.runtimes.get(runtime_id)
        if runtime is None:
            raise NotFound("No such sandbox.", hint="sandbox_list shows what there is.")
        match runtime.state:
            case RuntimeState.STARTING | RuntimeState.STOPPING:
                raise WrongState(f"Sandbox {runtime.alias} is {runtime.state}.", hint="Try again in a moment.")
            case RuntimeState.ACTIVE:
                raise RuntimeUnavailable(f"Sandbox {runtime.alias} is going.", hint="See sandbox_list in a moment.")
            case RuntimeState.STOPPED | RuntimeState.FAILED:
                why = f": {runtime.reason}" if runtime.reason else ""
                raise WrongState(
                    f"Sandbox {runtime.alias} has {'failed' if runtime.state is RuntimeState.FAILED else 'stopped'}{why}.",
                    hint=f"sandbox_launch alias={runtime.alias} starts it again; its files are kept.",
                )

    def launched_by(self, runtime_id: str) -> str:
        """The run that started what runs there; empty when nothing does."""
        live = self._live.get(runtime_id)
        return "" if live is None else live.run_id

    def capture(self, redactor: Redactor) -> Capture:
        return Capture(self.artifacts.spool, redactor)

    def is_busy(self, space_id: str) -> bool:
        return any(self.jobs.is_busy(one.id) for one in self._of(space_id))

    # Starting

    async def start_new(self, runtime: Runtime, *, space_version: int, run_id: str = "") -> tuple[Runtime, Live]:
        """Store a new runtime and start it. Whatever is raised, nothing of it is left."""
        async with self._lock(runtime.id):
            # Once it is stored it is started or erased, also when the caller goes away in this very moment.
            await shielded(self.runtimes.add(runtime, space_version=space_version))
            self._announce(runtime.space_id)
            try:
                return await self._start(runtime, run_id)
            except BaseException:
                await shielded(self._erase(runtime))
                raise

    async def start_again(
        self, runtime_id: str, change: Callable[[Runtime], Runtime], *, run_id: str = ""
    ) -> tuple[Runtime, Live]:
        """Start a stopped or failed runtime, on its files; on an empty workspace where they are gone, as after a
        backup that was put back elsewhere. Raises Conflict when it is neither.

        When starting fails, the row says FAILED and why.
        """
        async with self._lock(runtime_id):

            def claim(runtime: Runtime) -> Runtime:
                if runtime.holds:
                    raise Conflict(
                        f"Sandbox {runtime.alias} is {runtime.state} already.",
                        hint="Use it as it is, or choose another alias.",
                    )
                return change(runtime).model_copy(update={"state": RuntimeState.STARTING, "reason": ""})

            runtime = await shielded(self.runtimes.reactivate(runtime_id, claim))
            self._announce(runtime.space_id)
            try:
                started, live = await self._start(runtime, run_id)
            except BaseException as error:
                reason = error.message if isinstance(error, SpacesError) else "its start was cancelled"
                await shielded(self.runtimes.set_state(runtime_id, RuntimeState.FAILED, reason=reason))
                raise
            live.files_lost = live.sandbox.new_workspace
            if live.files_lost:
                log.warning("sandbox %s starts with an empty workspace: the one that it had is gone", runtime.id)
            return started, live

    async def _start(self, runtime: Runtime, run_id: str) -> tuple[Runtime, Live]:
        await anyio.lowlevel.checkpoint_if_cancelled()
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
        live: Live | None = None
        try:
            live = Live(sandbox, await self._shell_of(sandbox), run_id)
            if self._gateway is not None:
                await self._gateway.attach(RuntimeRef(runtime.id, runtime.space_id, runtime.alias), sandbox)
            self._live[runtime.id] = live
            live.watcher = asyncio.create_task(self._watch(runtime, live))
            active = await self._activate(runtime)
            if self._live.get(runtime.id) is not live:
                raise RuntimeUnavailable("The sandbox died as it started.", hint="Try again; see mcp-spaces doctor.")
        except BaseException:
            await shielded(self._drop(runtime.id, sandbox))
            raise
        self._announce(runtime.space_id)
        return active, live

    async def _shell_of(self, sandbox: Sandbox) -> Shell:
        """Asked of an image's first sandbox: the others have the same files and begin with the same environment."""
        shell = self._shells.get(sandbox.image_id)
        if shell is None:
            shell = self._shells[sandbox.image_id] = await _shell_of(sandbox)
        return shell

    async def _activate(self, runtime: Runtime) -> Runtime:
        """In one transaction with a last look at the space: it may have been stopped or narrowed meanwhile (T09)."""
        now = self._clock.now()

        def change(row: Runtime) -> Runtime:
            return row.model_copy(update={"state": RuntimeState.ACTIVE, "started_at": now})

        active = await self.runtimes.reactivate(runtime.id, change)
        space = self._spaces.get(runtime.space_id)
        if not _still_holds(space, active):
            raise Conflict(
                "The space was narrowed or stopped while the sandbox started.",
                hint="Repeat the call: it is judged by the new ceiling.",
            )
        return active

    # Stopping

    async def stop(self, runtime_id: str, *, reason: str) -> Runtime | None:
        """Free the container; the files stay. Idempotent: answers with the row, or None when there is none."""
        return await shielded(self._stop(runtime_id, reason))

    async def delete(self, runtime_id: str) -> None:
        """The container, the files, the jobs and the row go. Idempotent."""
        await shielded(self._delete(runtime_id))

    async def stop_all(self, space_id: str, *, reason: str) -> None:
        await side_by_side([self.stop(one.id, reason=reason) for one in self._of(space_id)])

    async def stop_beyond(self, space_id: str, limits: Limits, *, reason: str) -> None:
        wide = [one for one in self._of(space_id) if one.holds and one.exceeds(limits)]
        await side_by_side([self.stop(one.id, reason=reason) for one in wide])

    async def delete_all(self, space_id: str) -> None:
        await side_by_side([self.delete(one.id) for one in self._of(space_id)])

    async def reconcile(self) -> None:
        """At start: no sandbox of a former daemon is used again, its files are."""
        for runtime in self.runtimes.all(kind=RuntimeKind.SANDBOX):
            if runtime.holds:
                await self.runtimes.set_state(runtime.id, RuntimeState.STOPPED, reason="the daemon restarted")
        try:
            await self._reap()
        except RuntimeUnavailable as error:
            # Spaces and records work without an engine; the first launch reaps.
            log.warning("sandboxes of the last daemon are not reaped yet: %s", error.message)

    async def aclose(self) -> None:
        """Stop everything; the rows say so, as far as they can still be written."""
        with suppress(SpacesError):
            await side_by_side([self.stop(runtime_id, reason="the daemon stopped") for runtime_id in list(self._live)])
        await self.jobs.aclose()
        await self._driver.aclose()

    async def _stop(self, runtime_id: str, reason: str) -> Runtime | None:
        async with self._lock(runtime_id):
            runtime = self.runtimes.get(runtime_id)
            live = self._live.get(runtime_id)
            if runtime is None or (live is None and not runtime.holds):
                return runtime
            await self.runtimes.set_state(runtime_id, RuntimeState.STOPPING, reason=reason)
            try:
                if live is not None:
                    await self._drop(runtime_id, live.sandbox)
            except SpacesError as error:
                # What is left of it is looked for before the next start.
                self._reaped = False
                told = f"it could not be stopped: {error.message}"
                await self.runtimes.set_state(runtime_id, RuntimeState.FAILED, reason=told)
                raise
            stopped = await self.runtimes.set_state(runtime_id, RuntimeState.STOPPED, reason=reason)
        self._announce(runtime.space_id)
        return stopped

    async def _delete(self, runtime_id: str) -> None:
        await self._stop(runtime_id, "it is being deleted")
        async with self._lock(runtime_id):
            runtime = self.runtimes.get(runtime_id)
            if runtime is not None:
                await self._erase(runtime)

    async def _erase(self, runtime: Runtime) -> None:
        """The files first: a row without files is deleted again, files without a row are only found by `reap`."""
        try:
            await self._driver.delete_workspace(runtime.id)
        finally:
            await self.runtimes.remove(runtime.id)
            self.jobs.forget(runtime.id)
            self._announce(runtime.space_id)

    async def _drop(self, runtime_id: str, sandbox: Sandbox) -> None:
        live = self._live.pop(runtime_id, None)
        self._cut_off(runtime_id)
        for job in self.jobs.of_runtime(runtime_id):
            job.stopping = True
        try:
            await sandbox.stop()
        finally:
            await self.jobs.end_all(runtime_id)
            if live is not None and live.watcher is not None:
                live.watcher.cancel()

    async def _watch(self, runtime: Runtime, live: Live) -> None:
        reason = await live.sandbox.closed()
        if self._live.get(runtime.id) is not live:
            return
        del self._live[runtime.id]
        self._cut_off(runtime.id)
        log.warning("sandbox %s ended by itself: %s", runtime.id, reason)
        await self.jobs.end_all(runtime.id)
        with suppress(SpacesError):
            async with self._lock(runtime.id):
                # Somebody may have started it again meanwhile.
                if runtime.id not in self._live:
                    await self.runtimes.fail(runtime.id, reason=reason)
        with suppress(SpacesError):
            await live.sandbox.stop()
        self._announce(runtime.space_id)

    def _cut_off(self, runtime_id: str) -> None:
        if self._gateway is not None:
            self._gateway.detach(runtime_id)

    async def _reap(self) -> None:
        rows = self.runtimes.all(kind=RuntimeKind.SANDBOX)
        removed = await self._driver.reap(keep={one.id for one in rows})
        self._reaped = True
        if removed:
            log.info("reaped %d containers and workspaces that nobody owned", len(removed))

    def _of(self, space_id: str) -> list[Runtime]:
        return self.runtimes.of_space(space_id, kind=RuntimeKind.SANDBOX)

    def _lock(self, runtime_id: str) -> asyncio.Lock:
        return self._locks.setdefault(runtime_id, asyncio.Lock())


def _still_holds(space: Space | None, runtime: Runtime) -> bool:
    return space is not None and space.state is SpaceState.RUNNING and covers(space.ceiling, runtime.ceiling)


async def _shell_of(sandbox: Sandbox) -> Shell:
    with anyio.move_on_after(PROBE_S):
        process = await sandbox.start(
            Command((SH, "-c", WHICH_SHELL), stdin=False), output=lambda _stream, _chunk: None
        )
        ended = await process.wait()
        is_bash = ended.exit_code in (USUAL_BASH, SET_UP_BASH)
        return Shell(BASH if is_bash else SH, may_be_left_out=ended.exit_code == USUAL_BASH)
    raise RuntimeUnavailable("The sandbox's shell does not answer.", hint="Does the image have /bin/sh?")
