"""Spaces: create, look at, change, start, stop, delete."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, Field

from mcp_spaces.core.active import WORKING, ActiveCalls
from mcp_spaces.core.context import Context
from mcp_spaces.core.effect import Effect
from mcp_spaces.core.ids import new_id
from mcp_spaces.core.operation import AnyOperation, Operation
from mcp_spaces.core.place import Everywhere, InSpace
from mcp_spaces.core.scope import narrow
from mcp_spaces.core.tasks import shielded
from mcp_spaces.errors import Denied, WrongState
from mcp_spaces.spaces.ceilings import ceiling_for, is_lower, patched
from mcp_spaces.spaces.lifecycle import Lifecycle
from mcp_spaces.spaces.model import Space, SpaceRequest, SpaceState
from mcp_spaces.spaces.store import SpaceStore
from mcp_spaces.spaces.views import SpaceRow, SpaceView, SpaceViews

TTL_LIMIT_S = 31_536_000
"""One year."""
LOWERED = "the space's ceiling was lowered"

CEILING = frozenset({"policy", "mounts", "limits"})
"""The parts of a request that make its ceiling."""


class CreateInput(Everywhere, SpaceRequest):
    ttl_s: float | None = Field(default=None, gt=0, le=TTL_LIMIT_S)
    """Seconds until the space is deleted."""


class ListInput(Everywhere):
    cursor: str = Field(default="", max_length=64)
    limit: int = Field(default=50, ge=1, le=200)


class SpacePage(BaseModel):
    spaces: list[SpaceRow]
    next_cursor: str | None = None


class UpdateInput(InSpace):
    patch: Mapping[str, Any] = Field(max_length=20)
    """Merge patch over name, labels, region, policy, mounts, limits, idle_timeout_s: null clears."""


class ExtendInput(InSpace):
    ttl_s: float | None = Field(gt=0, le=TTL_LIMIT_S)
    """Seconds from now, at least: what lives longer, or has no end, keeps its own. null: no end."""


class DeleteInput(InSpace):
    force: bool = False
    """Also while runtimes are active."""


class Deleted(BaseModel):
    deleted: str


async def create(context: Context, wanted: CreateInput) -> SpaceView:
    now = context.clock.now()
    request = SpaceRequest(**wanted.model_dump(exclude={"ttl_s"}))
    ceiling = ceiling_for(context, request)
    space = Space(
        id=new_id("sp"),
        owner_id=context.caller.principal_id,
        state=SpaceState.RUNNING,
        requested=request,
        ceiling=ceiling,
        version=1,
        created_at=now,
        expires_at=None if wanted.ttl_s is None else now + wanted.ttl_s,
    )
    if context.caller.spaces is not None:
        raise Denied("This key is bound to its spaces.", hint="Use a key that is not, to make more.", rule="key.spaces")

    async def added() -> None:
        await context.use(SpaceStore).add(space, most=context.caller.scope.limits.spaces)
        context.use(Lifecycle).listed(space)

    # It is made even when the caller gives up, and then its time runs.
    await shielded(added())
    return context.use(SpaceViews).whole(context.caller, space)


async def get(context: Context, _: InSpace) -> SpaceView:
    space = context.use(SpaceStore).resolve(context.caller, context.space.id)
    return context.use(SpaceViews).whole(context.caller, space)


async def list_spaces(context: Context, wanted: ListInput) -> SpacePage:
    found = context.use(SpaceStore).visible(context.caller, after=wanted.cursor, limit=wanted.limit + 1)
    page = found[: wanted.limit]
    views = context.use(SpaceViews)
    return SpacePage(
        spaces=[views.row(context.caller, space) for space in page],
        next_cursor=page[-1].id if len(found) > wanted.limit else None,
    )


async def update(context: Context, wanted: UpdateInput) -> SpaceView:
    before: list[Space] = []

    def change(space: Space) -> Space:
        before.append(space)
        request = patched(space.requested, wanted.patch)
        ceiling = ceiling_for(context, request, now=space)
        changed = (ceiling, request.policy) != (space.ceiling, space.requested.policy)
        return space.model_copy(update={"requested": request, "ceiling": ceiling, "version": space.version + changed})

    async def changed() -> Space:
        space = await context.use(SpaceStore).change(context.space.id, change)
        renamed = space.requested.name != before[-1].requested.name
        (context.use(Lifecycle).listed if renamed else context.use(Lifecycle).changed)(space)
        return space

    # It happens even when the caller gives up, and then what is open has to end too.
    space = await shielded(changed())
    # Whatever is under way and no longer permitted ends now, before the caller hears that it is (threat T09).
    lowered = is_lower(context, space, before[-1])
    try:
        await context.use(ActiveCalls).end_where(
            lambda call: (
                call.run.space_id == space.id
                and call.run.id != context.run_id
                and (
                    (lowered and call.effect in WORKING)
                    or not narrow(call.caller.scope, space.ceiling).permits_operation(call.run.operation)
                )
            ),
            reason=LOWERED,
        )
    finally:
        # Also when the caller gives up waiting for those calls: they end by themselves, and a sandbox does not.
        await context.use(Lifecycle).stop_beyond(space, reason=LOWERED)
    return context.use(SpaceViews).whole(context.caller, space)


async def extend(context: Context, wanted: ExtendInput) -> SpaceView:
    """Raises WrongState once its time is over."""
    expires_at = None if wanted.ttl_s is None else context.clock.now() + wanted.ttl_s

    def extended(space: Space) -> Space:
        # It is being deleted by now, or about to be: what is told to live on has to.
        if space.expires_at is not None and space.expires_at <= context.clock.now():
            raise WrongState("The space's time is over: it is being deleted.", hint="Make another: space_create")
        # Never shorter: whoever extends a space that had no end would have set the hour at which its files go.
        if expires_at is not None and (space.expires_at is None or space.expires_at >= expires_at):
            return space
        return space.model_copy(update={"expires_at": expires_at})

    async def changed() -> Space:
        space = await context.use(SpaceStore).change(context.space.id, extended)
        context.use(Lifecycle).changed(space)
        return space

    space = await shielded(changed())
    return context.use(SpaceViews).whole(context.caller, space)


async def up(context: Context, _: InSpace) -> SpaceView:
    space = await context.use(Lifecycle).up(context.space.id)
    return context.use(SpaceViews).whole(context.caller, space)


async def down(context: Context, _: InSpace) -> SpaceView:
    space = await context.use(Lifecycle).down(context.space.id, reason="the space went down")
    return context.use(SpaceViews).whole(context.caller, space)


async def delete(context: Context, wanted: DeleteInput) -> Deleted:
    await context.use(Lifecycle).delete(context.space.id, force=wanted.force)
    return Deleted(deleted=context.space.id)


CREATE = Operation(
    id="space.create",
    summary="Create a space: a boundary with its own sandboxes, files, policy and limits.",
    input=CreateInput,
    output=SpaceView,
    effect=Effect.STARTS,
    handler=create,
    needs_pin=lambda wanted: not CEILING.isdisjoint(wanted.model_fields_set),
    unbound=True,
    example={"name": "work"},
)
GET = Operation(
    id="space.get",
    summary="A space in one picture: runtimes, mounts, policy, limits with use, pending approvals.",
    input=InSpace,
    output=SpaceView,
    effect=Effect.OBSERVES,
    handler=get,
    idempotent=True,
    example={"space": "work"},
)
STATE = Operation(
    id="space.state",
    summary="The same as space.get.",
    input=InSpace,
    output=SpaceView,
    effect=Effect.OBSERVES,
    handler=get,
    idempotent=True,
    listed=False,
    example={"space": "work"},
)
LIST = Operation(
    id="space.list",
    summary="The spaces that you can see.",
    input=ListInput,
    output=SpacePage,
    effect=Effect.OBSERVES,
    handler=list_spaces,
    idempotent=True,
)
UPDATE = Operation(
    id="space.update",
    summary="Change a space's name, labels, policy, mounts, limits.",
    input=UpdateInput,
    output=SpaceView,
    effect=Effect.GOVERNS,
    handler=update,
    needs_pin=lambda wanted: not CEILING.isdisjoint(wanted.patch),
    listed=False,
    idempotent=True,
    example={"space": "work", "patch": {"labels": {"ticket": "42"}}},
)
EXTEND = Operation(
    id="space.extend",
    summary="Let a space live longer.",
    input=ExtendInput,
    output=SpaceView,
    effect=Effect.GOVERNS,
    handler=extend,
    listed=False,
    example={"space": "work", "ttl_s": 3600},
)
UP = Operation(
    id="space.up",
    summary="Start a stopped space.",
    input=InSpace,
    output=SpaceView,
    effect=Effect.STARTS,
    handler=up,
    idempotent=True,
    listed=False,
    example={"space": "work"},
)
DOWN = Operation(
    id="space.down",
    summary="Stop a space: free its runtimes, keep its files and records.",
    input=InSpace,
    output=SpaceView,
    effect=Effect.ENDS,
    handler=down,
    idempotent=True,
    listed=False,
    example={"space": "work"},
)
DELETE = Operation(
    id="space.delete",
    summary="Delete a space with its runtimes and files, for good.",
    input=DeleteInput,
    output=Deleted,
    effect=Effect.ENDS,
    handler=delete,
    listed=False,
    example={"space": "work"},
)

OPERATIONS: tuple[AnyOperation, ...] = (CREATE, GET, STATE, LIST, UPDATE, EXTEND, UP, DOWN, DELETE)
