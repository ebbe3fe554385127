"""From what is asked for to the ceiling that it means: never more than who asks holds, or the space held before."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from mcp_spaces.core.active import leaves_less
from mcp_spaces.core.context import Context
from mcp_spaces.core.merge_patch import merge_patch
from mcp_spaces.core.pipeline import Pipeline
from mcp_spaces.core.plain_words import sentences_of
from mcp_spaces.core.policy import Policy, policy_excess
from mcp_spaces.core.scope import Scope
from mcp_spaces.core.scope_request import ScopeRequest, within
from mcp_spaces.errors import ExceedsCeiling, InvalidInput
from mcp_spaces.network.model import USE_SECRET
from mcp_spaces.spaces.model import DEFAULT_LIMITS, OWN_STORAGE, Space, SpaceRequest
from mcp_spaces.spaces.store import SpaceStore


def ceiling_for(context: Context, request: SpaceRequest, *, now: Space | None = None) -> Scope:
    """The ceiling that a request means, within the caller's own scope. What the space holds `now` may stay, even
    where an operator granted it and the caller could not.

    Raises ExceedsCeiling or InvalidInput.
    """
    caller = context.caller
    inherited = Scope(
        operations=caller.scope.operations,
        storage=OWN_STORAGE,
        limits=caller.scope.limits.meet(DEFAULT_LIMITS),
    )
    asked = ScopeRequest(
        **request.mounts.model_dump(exclude_unset=True, exclude={"network": {"own_authority"}}), limits=request.limits
    ).over(inherited)
    asked = asked.model_copy(update={"storage": {**OWN_STORAGE, **asked.storage}})
    spaces = context.use(SpaceStore)
    policy = spaces.policy(request.policy)
    _check_operations(context, policy, kept=None if now is None else spaces.policy(now.requested.policy))
    wider = policy_excess(caller.policy, policy)
    if wider and now is not None:
        kept = spaces.policy(now.requested.policy)
        wider = [key for key in wider if key in policy_excess(kept, policy)]
    if wider:
        raise ExceedsCeiling(
            f"policy.{wider[0]} is wider than this principal may choose.",
            hint="Choose a narrower preset, or let the operator set it: mcp-spaces space update",
            key=f"policy.{wider[0]}",
        )
    return within(
        caller.scope,
        asked,
        whose="your own scope",
        who=f"a person (mcp-spaces principal grant {caller.name})",
        already=None if now is None else now.ceiling,
    )


def _check_operations(context: Context, policy: Policy, *, kept: Policy | None) -> None:
    """A rule for an operation that does not exist would permit what it was meant to forbid. What is `kept` from before
    may be of another version of mcp-spaces.

    Raises InvalidInput.
    """
    for operation_id in policy.operations:
        known = operation_id in context.use(Pipeline).operations or operation_id == USE_SECRET
        if not known and (kept is None or operation_id not in kept.operations):
            raise InvalidInput(
                f"Policy key operations.{operation_id} is unknown.",
                hint="context_get topic=operations lists them.",
            )


def is_lower(context: Context, now: Space, before: Space) -> bool:
    """Whether something that was permitted is so no more."""
    policy = context.use(SpaceStore).policy
    return leaves_less(now.ceiling, before.ceiling) or bool(
        policy_excess(policy(now.requested.policy), policy(before.requested.policy))
    )


def patched(request: SpaceRequest, patch: Mapping[str, Any]) -> SpaceRequest:
    """Raises InvalidInput naming what does not fit."""
    merged = merge_patch(request.model_dump(mode="json", exclude_unset=True), patch)
    try:
        return SpaceRequest.model_validate(merged)
    except ValidationError as error:
        raise InvalidInput(
            f"patch.{sentences_of(error)[0]}.", hint="Changeable: " + ", ".join(SpaceRequest.model_fields) + "."
        ) from None
