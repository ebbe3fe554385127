"""Background jobs: commands that go on after the call that started them. They live in the daemon, not on the disk."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

import anyio

from mcp_spaces.core.active import ActiveCalls
from mcp_spaces.core.caller import Caller
from mcp_spaces.core.effect import Effect
from mcp_spaces.core.ids import Clock, new_id
from mcp_spaces.core.journal import Run
from mcp_spaces.core.redaction import RedactedStream, Redactor
from mcp_spaces.errors import NotFound, QuotaExceeded, RuntimeUnavailable, SpacesError
from mcp_spaces.sandbox.foreground import KILL_S
from mcp_spaces.sandbox.port import Command, Exit, Process, Sandbox, Stream
from mcp_spaces.sandbox.ring import Ring

OLD_RING_BYTES = 64 << 10
"""Output kept of a job that has ended and is not among the newest RECENT."""
RECENT = 8
RUNNING_LIMIT = 16
"""Jobs that run in one runtime at a time."""
KEPT_LIMIT = 64
"""Jobs of one runtime that are remembered; the oldest ended ones are forgotten."""

log = logging.getLogger(__name__)


class Events(Protocol):
    """Where it is noted that a job ended: core's Journal."""

    async def emit(self, run_id: str, event_type: str, body: Mapping[str, object]) -> int: ...


class JobState(StrEnum):
    RUNNING = "running"
    EXITED = "exited"
    STOPPED = "stopped"
    """By somebody, or with its sandbox."""
    LOST = "lost"
    """The sandbox died under it."""


@dataclass(slots=True, eq=False)
class Job:
    id: str
    space_id: str
    runtime_id: str
    run_id: str
    command: str
    process: Process
    ring: Ring
    streams: dict[Stream, RedactedStream]
    """Empty once it has ended: an automaton of some megabytes may hang on them."""
    redactor: Redactor | None
    counted: Counter[str]
    """What the redactor had found before it began."""
    started_at: float
    started_monotonic: float
    state: JobState = JobState.RUNNING
    exit_code: int | None = None
    out_of_memory: bool = False
    duration_ms: float | None = None
    stopping: bool = False
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    news: asyncio.Event = field(default_factory=asyncio.Event)
    """Set, and replaced by a fresh one, whenever there is output or the end."""

    @property
    def running(self) -> bool:
        return not self.ended.is_set()

    def tell(self) -> None:
        news, self.news = self.news, asyncio.Event()
        news.set()


class Jobs:
    """All jobs of this daemon, by runtime."""

    def __init__(self, *, events: Events, clock: Clock) -> None:
        self._events = events
        self._clock = clock
        self._by_runtime: dict[str, dict[str, Job]] = {}
        self._watchers: set[asyncio.Task[None]] = set()
        self._starting: Counter[str] = Counter()

    def find(self, space_id: str, job_id: str) -> Job:
        """Raises NotFound, for a job of another space in the same words as for none."""
        for jobs in self._by_runtime.values():
            job = jobs.get(job_id)
            if job is not None and job.space_id == space_id:
                return job
        raise NotFound("No such job.", hint="Jobs are forgotten when their sandbox is deleted or the daemon restarts.")

    def of_runtime(self, runtime_id: str) -> list[Job]:
        """In the order of their start."""
        return list(self._by_runtime.get(runtime_id, {}).values())

    def is_busy(self, runtime_id: str) -> bool:
        return any(job.running for job in self.of_runtime(runtime_id))

    def check_room(self, runtime_id: str) -> None:
        """Raises QuotaExceeded when as many jobs run there as may."""
        if self._starting[runtime_id] + sum(job.running for job in self.of_runtime(runtime_id)) >= RUNNING_LIMIT:
            raise QuotaExceeded(
                f"{RUNNING_LIMIT} jobs run in this sandbox already.", hint="Stop one, or wait for one: job_wait"
            )

    async def start(
        self,
        sandbox: Sandbox,
        command: Command,
        *,
        text: str,
        space_id: str,
        runtime_id: str,
        run_id: str,
        redactor: Redactor,
    ) -> Job:
        """What `redactor` knows is not kept of its output. Raises QuotaExceeded, or what the driver raises; then
        nothing runs."""
        self.check_room(runtime_id)
        ring = Ring()
        streams = {stream: redactor.stream() for stream in Stream}
        counted = redactor.counts.copy()
        holder: list[Job] = []

        def output(stream: Stream, chunk: bytes) -> None:
            if stream in streams:
                ring.add(stream, streams[stream].feed(chunk))
            if holder:
                holder[0].tell()

        self._starting[runtime_id] += 1
        try:
            process = await sandbox.start(command, output=output)
        finally:
            self._starting[runtime_id] -= 1
            if not self._starting[runtime_id]:
                del self._starting[runtime_id]
        job = Job(
            id=new_id("job"),
            space_id=space_id,
            runtime_id=runtime_id,
            run_id=run_id,
            command=text,
            process=process,
            ring=ring,
            streams=streams,
            redactor=redactor,
            counted=counted,
            started_at=self._clock.now(),
            started_monotonic=self._clock.monotonic(),
        )
        holder.append(job)
        jobs = self._by_runtime.setdefault(runtime_id, {})
        jobs[job.id] = job
        ended = [one for one in jobs.values() if not one.running]
        for forgotten in ended[: max(len(jobs) - KEPT_LIMIT, 0)]:
            del jobs[forgotten.id]
        for old in ended[:-RECENT]:
            old.ring.trim(OLD_RING_BYTES)
        watcher = asyncio.create_task(self._watch(job))
        self._watchers.add(watcher)
        watcher.add_done_callback(self._watchers.discard)
        return job

    def feed(self, job: Job, content: bytes) -> None:
        """To its stdin, as fast as it reads; whoever started it need not wait for that."""
        feeding = asyncio.create_task(_fed(job, content))
        self._watchers.add(feeding)
        feeding.add_done_callback(self._watchers.discard)

    def hold(self, job: Job, calls: ActiveCalls, caller: Caller) -> None:
        """A job outlives the call that began it, and not the permission that it began under: it stands among the
        calls under way, and is stopped when they would be (threats T06, T09)."""
        run = Run(
            job.id, "sandbox.shell", caller.principal_id, job.run_id, job.started_at, job.space_id, job.runtime_id
        )
        holding = calls.hold(
            run,
            caller,
            Effect.EXECUTES,
            job.redactor,
            now=self._clock.now(),
            over=job.ended.wait,
            end=lambda _: self.stop(job),
        )
        self._watchers.add(holding)
        holding.add_done_callback(self._watchers.discard)

    async def stop(self, job: Job) -> None:
        """Kill it with all its descendants. Idempotent. Raises RuntimeUnavailable when that cannot be seen to be done."""
        if not job.running:
            return
        job.stopping = True
        with anyio.move_on_after(KILL_S, shield=True):
            await job.process.kill()
            await job.ended.wait()
            return
        raise RuntimeUnavailable("The job did not end.", hint="Stop its sandbox: sandbox_stop")

    async def end_all(self, runtime_id: str) -> None:
        """What ends because its sandbox does: marked at once, since the processes are gone or going."""
        for job in self.of_runtime(runtime_id):
            if job.running:
                await self._end(job, JobState.STOPPED if job.stopping else JobState.LOST, None)

    def forget(self, runtime_id: str) -> None:
        self._by_runtime.pop(runtime_id, None)

    async def aclose(self) -> None:
        for watcher in list(self._watchers):
            watcher.cancel()
        await asyncio.gather(*self._watchers, return_exceptions=True)

    async def _watch(self, job: Job) -> None:
        try:
            ended = await job.process.wait()
        except SpacesError:
            await self._end(job, JobState.STOPPED if job.stopping else JobState.LOST, None)
            return
        await self._end(job, JobState.STOPPED if job.stopping else JobState.EXITED, ended)

    async def _end(self, job: Job, state: JobState, ended: Exit | None) -> None:
        if not job.running:
            return
        job.state = state
        redacted = self._let_go(job)
        job.duration_ms = round((self._clock.monotonic() - job.started_monotonic) * 1000, 1)
        if ended is not None:
            job.exit_code, job.out_of_memory = ended.exit_code, ended.out_of_memory
        job.ended.set()
        job.tell()
        body: dict[str, object] = {"job": job.id, "state": state, "exit_code": job.exit_code}
        if redacted:
            body["redacted"] = redacted
        try:
            await self._events.emit(job.run_id, "job.ended", body)
        except SpacesError:
            # The job has ended all the same; a full disk cannot keep it from being told.
            log.warning("the end of %s could not be recorded", job.id)

    @staticmethod
    def _let_go(job: Job) -> dict[str, int]:
        """What was held back of its output is told; returns how often each secret was taken out of it."""
        for stream, held in job.streams.items():
            job.ring.add(stream, held.finish())
        job.streams.clear()
        redactor, job.redactor = job.redactor, None
        return {} if redactor is None else dict(redactor.counts - job.counted)


async def _fed(job: Job, content: bytes) -> None:
    # A job that ends, or closes its stdin, without reading all of it is no error.
    with suppress(SpacesError):
        await job.process.write(content)
