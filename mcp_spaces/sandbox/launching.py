"""Starting a sandbox: a new one, or a stopped one again with its files."""

from __future__ import annotations

from collections.abc import Awaitable

from pydantic import Field

from mcp_spaces.core.context import Context
from mcp_spaces.core.effect import Effect
from mcp_spaces.core.limits import GIB, Limits
from mcp_spaces.core.operation import Operation
from mcp_spaces.core.place import InSpace
from mcp_spaces.core.scope import Scope
from mcp_spaces.core.scope_request import ScopeRequest, within
from mcp_spaces.errors import Conflict
from mcp_spaces.sandbox.runtime_operations import SandboxView, limits_view, sandbox_view
from mcp_spaces.sandbox.service import Live, SandboxService
from mcp_spaces.spaces.model import Alias, Runtime, RuntimeKind, inherited_again, parts_named, sized

DEFAULT_ALIAS = "main"
DEFAULT_LIMITS = Limits(cpu_cores=1, memory_bytes=GIB, disk_bytes=2 * GIB, pids=256)
"""Of one sandbox that asks for nothing else, as far as the space's own go."""


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
        **sandbox_view(runtime).model_dump(exclude={"limits"}),
        limits=limits_view(runtime),
        shell=live.shell.path.rpartition("/")[2],
        started_in_ms=round((context.clock.monotonic() - began) * 1000, 1),
        files_lost=live.files_lost or None,
    )


async def _started(context: Context, sandboxes: SandboxService, given: LaunchInput) -> tuple[Runtime, Live]:
    """Whoever names none means the files that they had, not an empty workspace beside them."""
    found = sandboxes.named(context.space.id, given.alias or DEFAULT_ALIAS)
    if found is None or (given.alias is None and not _rests(found)):
        return await _new(context, sandboxes, given)
    try:
        return await _again(context, sandboxes, found, given)
    except Conflict:
        # Another launch may have started it just now; with a name of the caller's own, that is for the caller.
        if given.alias is not None or _rests(sandboxes.row(found.id)):
            raise
    return await _new(context, sandboxes, given)


def _rests(runtime: Runtime) -> bool:
    return runtime.kind is RuntimeKind.SANDBOX and not runtime.holds


async def _new(context: Context, sandboxes: SandboxService, given: LaunchInput) -> tuple[Runtime, Live]:
    inherited = one_sandbox(context.scope)
    wanted = inherited if given.scope is None else given.scope.over(inherited)
    ceiling = within(context.scope, wanted, whose="the space", who="its owner (space_update)")
    image = sandboxes.images.choose(given.image)

    def start(alias: str) -> Awaitable[tuple[Runtime, Live]]:
        asked = parts_named(given.scope)
        runtime = sandboxes.fresh(context.space.id, alias, ceiling=ceiling, asked=asked, image=image)
        return sandboxes.start_new(runtime, space_version=context.space.version, run_id=context.run_id)

    if given.alias is not None:
        return await start(given.alias)
    return await sandboxes.first_free(context.space.id, DEFAULT_ALIAS, start)


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
    ceiling = within(context.scope, wanted, whose="the space", who="its owner (space_update)")
    image = sandboxes.images.choose(given.image) if given.image else sandboxes.images.again(found.image)
    asked = None if found.asked is None else parts_named(given.scope, before=found.asked)
    changed = {"ceiling": ceiling, "asked": asked, "image": image}
    return await sandboxes.start_again(found.id, lambda row: row.model_copy(update=changed), run_id=context.run_id)


def one_sandbox(ceiling: Scope) -> Scope:
    """What a sandbox gets that asks for nothing. Raises ExceedsCeiling."""
    return sized(ceiling, DEFAULT_LIMITS, kind=RuntimeKind.SANDBOX)


LAUNCH = Operation(
    id="sandbox.launch",
    summary="Start a sandbox.",
    input=LaunchInput,
    output=LaunchOutput,
    effect=Effect.STARTS,
    handler=launch,
    needs_running_space=True,
    example={"space": "default", "alias": "main"},
)
