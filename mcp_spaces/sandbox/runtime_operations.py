"""The operations on sandboxes that there are: list, get, stop, delete."""

from __future__ import annotations

from mcp_spaces.core.answer import Answer
from mcp_spaces.core.context import Context
from mcp_spaces.core.effect import Effect
from mcp_spaces.core.operation import Operation
from mcp_spaces.core.place import InRuntime, InSpace
from mcp_spaces.sandbox.jobs import JobState
from mcp_spaces.sandbox.service import SandboxService
from mcp_spaces.spaces.model import SIZES, Runtime, RuntimeKind, RuntimeState


class SandboxLimitsView(Answer):
    cpu_cores: float
    memory_bytes: int
    disk_bytes: int
    pids: int


class SandboxView(Answer):
    id: str
    alias: str
    state: RuntimeState
    reason: str | None = None
    """Why it is stopped or failed."""
    image: str
    limits: SandboxLimitsView


class ListInput(InSpace):
    pass


class ListOutput(Answer):
    sandboxes: tuple[SandboxView, ...]


class SandboxInput(InRuntime):
    pass


class JobLine(Answer):
    id: str
    command: str
    state: JobState


class UsageView(Answer):
    memory_bytes: int
    disk_bytes: int
    pids: int


class GetOutput(SandboxView):
    usage: UsageView | None = None
    jobs: tuple[JobLine, ...] | None = None


class DeleteOutput(Answer):
    deleted: str
    """Its alias."""


async def list_sandboxes(context: Context, _given: ListInput) -> ListOutput:
    rows = context.use(SandboxService).runtimes.of_space(context.space.id, kind=RuntimeKind.SANDBOX)
    return ListOutput(sandboxes=tuple(sandbox_view(row) for row in rows))


async def get(context: Context, _given: SandboxInput) -> GetOutput:
    """What runs is asked for its use. Raises RuntimeUnavailable."""
    sandboxes = context.use(SandboxService)
    runtime = sandboxes.row(context.runtime.id)
    usage = None
    if runtime.state is RuntimeState.ACTIVE:
        seen = await sandboxes.live(runtime.id).usage()
        usage = UsageView(memory_bytes=seen.memory_bytes, disk_bytes=seen.disk_bytes, pids=seen.pids)
    jobs = tuple(
        JobLine(id=job.id, command=job.command[:200], state=job.state) for job in sandboxes.jobs.of_runtime(runtime.id)
    )
    return GetOutput(
        **sandbox_view(runtime).model_dump(exclude={"limits"}),
        limits=limits_view(runtime),
        usage=usage,
        jobs=jobs or None,
    )


async def stop(context: Context, _given: SandboxInput) -> SandboxView:
    """Whatever runs in it ends; its files stay. Idempotent."""
    sandboxes = context.use(SandboxService)
    await sandboxes.stop(context.runtime.id, reason=f"{context.caller.name} stopped it")
    return sandbox_view(sandboxes.row(context.runtime.id))


async def delete(context: Context, _given: SandboxInput) -> DeleteOutput:
    """Its files go for good."""
    await context.use(SandboxService).delete(context.runtime.id)
    return DeleteOutput(deleted=context.runtime.alias)


def limits_view(runtime: Runtime) -> SandboxLimitsView:
    return SandboxLimitsView(**{name: getattr(runtime.ceiling.limits, name) for name in SIZES})


def sandbox_view(runtime: Runtime) -> SandboxView:
    return SandboxView(
        id=runtime.id,
        alias=runtime.alias,
        state=runtime.state,
        reason=runtime.reason or None,
        image=runtime.image,
        limits=limits_view(runtime),
    )


LIST = Operation(
    id="sandbox.list",
    summary="List a space's sandboxes.",
    input=ListInput,
    output=ListOutput,
    effect=Effect.OBSERVES,
    handler=list_sandboxes,
    idempotent=True,
    on_stopped_runtime=True,
    example={"space": "default"},
)
GET = Operation(
    id="sandbox.get",
    summary="Show a sandbox with its use and jobs.",
    input=SandboxInput,
    output=GetOutput,
    effect=Effect.OBSERVES,
    handler=get,
    listed=False,
    idempotent=True,
    on_stopped_runtime=True,
    example={"space": "default", "runtime": "main"},
)
STOP = Operation(
    id="sandbox.stop",
    summary="Stop a sandbox; its files are kept.",
    input=SandboxInput,
    output=SandboxView,
    effect=Effect.ENDS,
    handler=stop,
    idempotent=True,
    on_stopped_runtime=True,
    example={"space": "default", "runtime": "main"},
)
DELETE = Operation(
    id="sandbox.delete",
    summary="Delete a sandbox with its files.",
    input=SandboxInput,
    output=DeleteOutput,
    effect=Effect.ENDS,
    handler=delete,
    idempotent=True,
    on_stopped_runtime=True,
    example={"space": "default", "runtime": "main"},
)
