"""The operations on background jobs."""

from __future__ import annotations

from typing import Annotated

import anyio
from pydantic import AfterValidator, Field

from mcp_spaces.core.answer import ANSWER_CHARACTERS, Answer
from mcp_spaces.core.context import Context
from mcp_spaces.core.effect import Effect
from mcp_spaces.core.operation import Operation
from mcp_spaces.core.place import InSpace
from mcp_spaces.errors import Denied, WrongState
from mcp_spaces.sandbox.jobs import Job, JobState
from mcp_spaces.sandbox.path_grammar import encodable
from mcp_spaces.sandbox.port import Stream
from mcp_spaces.sandbox.service import SandboxService

LONGEST_WAIT_S = 300.0
PROGRESS_S = 5.0
WRITE_BYTES = 1 << 20
EXAMPLE_JOB = "job_aaaaaaaaaaaaaaaaaaaaaaaaaa"


class JobInput(InSpace):
    job: str = Field(min_length=1, max_length=64)


class JobStatus(Answer):
    job: str
    state: JobState
    exit_code: int | None = None
    out_of_memory: bool | None = None
    duration_ms: float | None = None
    output_bytes: int
    """Written so far, both streams."""


class ReadInput(JobInput):
    cursor: int = Field(default=0, ge=0)
    """From the last answer's next_cursor."""
    wait_s: float = Field(default=0, ge=0, le=LONGEST_WAIT_S)
    """Wait so long for output; at most 300."""
    limit: int = Field(default=ANSWER_CHARACTERS, ge=100, le=ANSWER_CHARACTERS)
    """Characters, at most 16000."""


class OutputPiece(Answer):
    stream: Stream
    text: str


class ReadOutput(JobStatus):
    output: tuple[OutputPiece, ...]
    next_cursor: int
    dropped_bytes: int | None = None
    """Older than the 1 MiB that is kept."""


def _text(text: str) -> str:
    if len(encodable(text).encode()) > WRITE_BYTES:
        raise ValueError(f"at most {WRITE_BYTES} bytes at a time: write the rest after it")
    return text


class WriteInput(JobInput):
    text: Annotated[str, Field(max_length=WRITE_BYTES), AfterValidator(_text)] = ""
    close: bool = False
    """Close its stdin afterwards."""


class WaitInput(JobInput):
    timeout_s: float = Field(default=60, gt=0, le=LONGEST_WAIT_S)
    """At most 300."""


async def read(context: Context, given: ReadInput) -> ReadOutput:
    """Output since `cursor`. Nothing new is no error. Raises NotFound or Denied."""
    job = _job(context, given.job, "job.read")
    with anyio.move_on_after(given.wait_s):
        while given.wait_s and job.running and job.ring.end <= given.cursor:
            await job.news.wait()
    texts, cursor = job.ring.since(given.cursor, given.limit, ended=not job.running)
    dropped = max(job.ring.start - given.cursor, 0)
    return ReadOutput(
        **_status(job).model_dump(),
        output=tuple(OutputPiece(stream=stream, text=text) for stream, text in texts),
        next_cursor=cursor,
        dropped_bytes=dropped or None,
    )


async def write(context: Context, given: WriteInput) -> JobStatus:
    """Append to the job's stdin; waits while the job does not read. Raises NotFound, Denied or WrongState."""
    job = _job(context, given.job, "job.write")
    if not job.running:
        raise WrongState("The job has ended.", hint="Start it again: sandbox_shell background=true")
    if given.text:
        await job.process.write(given.text.encode())
    if given.close:
        await job.process.close_stdin()
    return _status(job)


async def wait(context: Context, given: WaitInput) -> JobStatus:
    """Until the job has ended, or the time is over: then `state` is still running."""
    job = _job(context, given.job, "job.wait")
    began = context.clock.monotonic()
    with anyio.move_on_after(given.timeout_s):
        while job.running:
            with anyio.move_on_after(PROGRESS_S):
                await job.ended.wait()
            waited_s = context.clock.monotonic() - began
            await context.progress(waited_s, given.timeout_s, f"{job.ring.end:,} bytes of output")
    return _status(job)


async def stop(context: Context, given: JobInput) -> JobStatus:
    """Kill the job with all its descendants. Idempotent."""
    job = _job(context, given.job, "job.stop")
    await context.use(SandboxService).jobs.stop(job)
    return _status(job)


def _job(context: Context, job_id: str, operation_id: str) -> Job:
    """Raises NotFound, or Denied where the ceiling of the job's sandbox does not hold the operation."""
    sandboxes = context.use(SandboxService)
    job = sandboxes.jobs.find(context.space.id, job_id)
    runtime = sandboxes.runtimes.get(job.runtime_id)
    if runtime is not None and not runtime.ceiling.permits_operation(operation_id):
        raise Denied(
            f"{operation_id} is outside the scope of sandbox {runtime.alias}.",
            hint="context_get lists what can be called.",
            rule="scope.operations",
        )
    return job


def _status(job: Job) -> JobStatus:
    return JobStatus(
        job=job.id,
        state=job.state,
        exit_code=job.exit_code,
        out_of_memory=job.out_of_memory or None,
        duration_ms=job.duration_ms,
        output_bytes=job.ring.end,
    )


JOB_READ = Operation(
    id="job.read",
    summary="Read a background job's output from a cursor on.",
    input=ReadInput,
    output=ReadOutput,
    effect=Effect.READS,
    handler=read,
    idempotent=True,
    example={"space": "default", "job": EXAMPLE_JOB},
)
JOB_WRITE = Operation(
    id="job.write",
    summary="Write to a background job's stdin.",
    input=WriteInput,
    output=JobStatus,
    effect=Effect.EXECUTES,
    handler=write,
    listed=False,
    needs_running_space=True,
    example={"space": "default", "job": EXAMPLE_JOB, "text": "yes\n"},
)
JOB_WAIT = Operation(
    id="job.wait",
    summary="Wait for a background job to end.",
    input=WaitInput,
    output=JobStatus,
    effect=Effect.OBSERVES,
    handler=wait,
    idempotent=True,
    example={"space": "default", "job": EXAMPLE_JOB, "timeout_s": 60},
)
JOB_STOP = Operation(
    id="job.stop",
    summary="Stop a background job.",
    input=JobInput,
    output=JobStatus,
    effect=Effect.ENDS,
    handler=stop,
    idempotent=True,
    example={"space": "default", "job": EXAMPLE_JOB},
)
