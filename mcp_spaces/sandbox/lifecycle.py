"""The operations that start, show, stop and delete sandboxes."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from mcp_spaces.core.context import Context
from mcp_spaces.core.effect import Effect
from mcp_spaces.core.ids import new_id
from mcp_spaces.core.limits import GIB, Limits
from mcp_spaces.core.operation import Operation
from mcp_spaces.core.place import InRuntime, InSpace
from mcp_spaces.core.scope import Scope
from mcp_spaces.core.scope_request import ScopeRequest, within
from mcp_spaces.errors import Conflict, NotFound, SpacesError
from mcp_spaces.sandbox.jobs import JobState
from mcp_spaces.sandbox.service import Live, SandboxService
from mcp_spaces.spaces.model import (
    SIZES,
    Alias,
    Runtime,
    RuntimeKind,
    RuntimeState,
    free_alias,
    inherited_again,
    parts_named,
    sized,
)

DEFAULT_ALIAS = "main"
DEFAULT_LIMITS = Limits(cpu_cores=1, memory_bytes=GIB, disk_bytes=2 * GIB, pids=256)
"""Of one sandbox that asks for nothing else, as far as the space's own go."""
ALIAS_ATTEMPTS = 5


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class SandboxLimitsView(_Answer):
    cpu_cores: float
    memory_bytes: int
    disk_bytes: int
    pids: int


class SandboxView(_Answer):
    id: str
    alias: str
    state: RuntimeState
    reason: str | None = None
    """Why it is stopped or failed."""
    image: str
    limits: SandboxLimitsView


class LaunchInput(InSpace):
    alias: Alias | None = None
    """That of a stopped sandbox starts it again with its files. Default: main; beside a running one, main-2 …"""
    image: str | None = Field(default=None, min_length=1, max_length=300)
    """One of the operator's images."""
    scope: ScopeRequest | None = None
    """Less than the space holds."""


class LaunchOutput(SandboxView):
    shell: str
    """What runs commands."""
    started_in_ms: float
    files_lost: bool | None = None
    """The workspace that it had is gone: it starts empty."""


class ListInput(InSpace):
    pass


class ListOutput(_Answer):
    sandboxes: tuple[SandboxView, ...]


class SandboxInput(InRuntime):
    pass


class JobLine(_Answer):
    id: str
    command: str
    state: JobState


class UsageView(_Answer):
    memory_bytes: int
    disk_bytes: int
    pids: int


class GetOutput(SandboxView):
    usage: UsageView | None = None
    jobs: tuple[JobLine, ...] | None = None


class DeleteOutput(_Answer):
    deleted: str
    """Its alias."""


async def launch(context: Context, given: LaunchInput) -> LaunchOutput:
    """Raises ExceedsCeiling, QuotaExceeded, Conflict (the alias is in use, the space changed), InvalidInput (image),
    RuntimeUnavailable. Nothing half done is left."""
    sandboxes = context.use(SandboxService)
    began = context.clock.monotonic()
    await context.progress(0, 2, "starting a sandbox")
    runtime, live = await _started(context, sandboxes, given)
    if live.files_lost:
        context.note("filesLost", {"runtime": runtime.id, "alias": runtime.alias})
    await context.progress(2, 2, f"sandbox {runtime.alias} is active")
    return LaunchOutput(
        **_view(runtime).model_dump(exclude={"limits"}),
        limits=_limits(runtime),
        shell=live.shell.path.rpartition("/")[2],
        started_in_ms=round((context.clock.monotonic() - began) * 1000, 1),
        files_lost=live.files_lost or None,
    )


async def list_sandboxes(context: Context, _given: ListInput) -> ListOutput:
    rows = context.use(SandboxService).runtimes.of_space(context.space.id, kind=RuntimeKind.SANDBOX)
    return ListOutput(sandboxes=tuple(_view(row) for row in rows))


async def get(context: Context, _given: SandboxInput) -> GetOutput:
    sandboxes = context.use(SandboxService)
    runtime = _row(sandboxes, context.runtime.id)
    usage = None
    if runtime.state is RuntimeState.ACTIVE:
        seen = await sandboxes.live(runtime.id).usage()
        usage = UsageView(memory_bytes=seen.memory_bytes, disk_bytes=seen.disk_bytes, pids=seen.pids)
    jobs = tuple(
        JobLine(id=job.id, command=job.command[:200], state=job.state) for job in sandboxes.jobs.of_runtime(runtime.id)
    )
    return GetOutput(
        **_view(runtime).model_dump(exclude={"limits"}), limits=_limits(runtime), usage=usage, jobs=jobs or None
    )


async def stop(context: Context, _given: SandboxInput) -> SandboxView:
    runtime = await context.use(SandboxService).stop(context.runtime.id, reason=f"{context.caller.name} stopped it")
    if runtime is None:
        raise _absent()
    return _view(runtime)


async def delete(context: Context, _given: SandboxInput) -> DeleteOutput:
    await context.use(SandboxService).delete(context.runtime.id)
    return DeleteOutput(deleted=context.runtime.alias)


def one_sandbox(ceiling: Scope) -> Scope:
    """What a sandbox gets that asks for nothing. Raises ExceedsCeiling."""
    return sized(ceiling, DEFAULT_LIMITS, kind=RuntimeKind.SANDBOX)


async def _started(context: Context, sandboxes: SandboxService, given: LaunchInput) -> tuple[Runtime, Live]:
    """Whoever names none means the files that they had, not an empty workspace beside them."""
    found = _named(sandboxes, context.space.id, given.alias or DEFAULT_ALIAS)
    if found is None or (given.alias is None and not _rests(found)):
        return await _new(context, sandboxes, given)
    try:
        return await _again(context, sandboxes, found, given)
    except Conflict:
        # Another launch may have started it just now; with a name of the caller's own, that is for the caller.
        if given.alias is not None or _rests(_row(sandboxes, found.id)):
            raise
    return await _new(context, sandboxes, given)


def _rests(runtime: Runtime) -> bool:
    return runtime.kind is RuntimeKind.SANDBOX and not runtime.holds


async def _new(context: Context, sandboxes: SandboxService, given: LaunchInput) -> tuple[Runtime, Live]:
    inherited = one_sandbox(context.scope)
    wanted = inherited if given.scope is None else given.scope.over(inherited)
    ceiling = within(context.scope, wanted, whose="the space")
    image = sandboxes.images.choose(given.image)
    for attempt in range(ALIAS_ATTEMPTS):
        alias = given.alias or _free_alias(sandboxes, context.space.id)
        runtime = Runtime(
            id=new_id("rt"),
            space_id=context.space.id,
            kind=RuntimeKind.SANDBOX,
            alias=alias,
            state=RuntimeState.STARTING,
            image=image,
            ceiling=ceiling,
            asked=parts_named(given.scope),
            created_at=context.clock.now(),
        )
        try:
            return await sandboxes.start_new(runtime, space_version=context.space.version, run_id=context.run_id)
        except Conflict:
            # Another launch took the same free alias; with a name of the caller's own, that is for the caller.
            taken = given.alias is None and _free_alias(sandboxes, context.space.id) != alias
            if not taken or attempt == ALIAS_ATTEMPTS - 1:
                raise
    raise AssertionError("the last attempt returns or raises")


async def _again(
    context: Context, sandboxes: SandboxService, found: Runtime, given: LaunchInput
) -> tuple[Runtime, Live]:
    """With its files and its size, what its launches asked for, and of all else what the space holds by now."""
    if found.kind is not RuntimeKind.SANDBOX:
        raise Conflict(f"The alias {found.alias!r} is a browser's.", hint="Choose another alias.")
    disk_bytes = found.ceiling.limits.disk_bytes
    inherited = inherited_again(context.scope, found)
    inherited = inherited.model_copy(update={"limits": inherited.limits.model_copy(update={"disk_bytes": disk_bytes})})
    wanted = inherited if given.scope is None else given.scope.over(inherited)
    if wanted.limits.disk_bytes != disk_bytes:
        raise Conflict(
            f"The workspace of {found.alias} keeps the size that it was made with.",
            hint="Leave out scope.limits.disk_bytes, or choose another alias.",
        )
    ceiling = within(context.scope, wanted, whose="the space")
    image = sandboxes.images.choose(given.image) if given.image else sandboxes.images.again(found.image)
    asked = None if found.asked is None else parts_named(given.scope, before=found.asked)
    changed = {"ceiling": ceiling, "asked": asked, "image": image}
    return await sandboxes.start_again(found.id, lambda row: row.model_copy(update=changed), run_id=context.run_id)


def _named(sandboxes: SandboxService, space_id: str, alias: str) -> Runtime | None:
    return next((one for one in sandboxes.runtimes.of_space(space_id) if one.alias == alias), None)


def _free_alias(sandboxes: SandboxService, space_id: str) -> str:
    return free_alias({one.alias for one in sandboxes.runtimes.of_space(space_id)}, DEFAULT_ALIAS)


def _row(sandboxes: SandboxService, runtime_id: str) -> Runtime:
    runtime = sandboxes.runtimes.get(runtime_id)
    if runtime is None:
        raise _absent()
    return runtime


def _absent() -> SpacesError:
    return NotFound("No such sandbox.", hint="sandbox_list shows what there is.")


def _limits(runtime: Runtime) -> SandboxLimitsView:
    return SandboxLimitsView(**{name: getattr(runtime.ceiling.limits, name) for name in SIZES})


def _view(runtime: Runtime) -> SandboxView:
    return SandboxView(
        id=runtime.id,
        alias=runtime.alias,
        state=runtime.state,
        reason=runtime.reason or None,
        image=runtime.image,
        limits=_limits(runtime),
    )


LAUNCH = Operation(
    id="sandbox.launch",
    summary="Start a sandbox.",
    input=LaunchInput,
    output=LaunchOutput,
    effect=Effect.STARTS,
    handler=launch,
    needs_running_space=True,
    on_stopped_runtime=True,
    example={"space": "default", "alias": "main"},
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
