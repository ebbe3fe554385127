"""Would an operation succeed here and now? The pipeline's own predicates, without calling anything (threat T14).

Where facts are needed they are those of the operation's example: what a call does with other arguments is its own
question, which `policy.explain` answers.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from mcp_spaces.core.caller import Caller
from mcp_spaces.core.intent import is_anywhere
from mcp_spaces.core.operation import AnyOperation
from mcp_spaces.core.place import DEFAULT_SPACE, SpacePlace
from mcp_spaces.core.policy import Ask, Decision, Deny, Policy, decide
from mcp_spaces.core.scope import narrow_again
from mcp_spaces.core.widening import who_widens
from mcp_spaces.spaces.model import Runtime, RuntimeKind, RuntimeState


@dataclass(frozen=True, slots=True)
class Refusal:
    why: str
    instead: str


@dataclass(frozen=True, slots=True)
class Judgement:
    """`refusal` is None where nothing stands in the way; `asks` is why a person has to say yes first."""

    operation: AnyOperation
    refusal: Refusal | None = None
    asks: str | None = None


def judge(
    caller: Caller, place: SpacePlace, runtimes: list[Runtime], operations: Iterable[AnyOperation]
) -> list[Judgement]:
    """As in a call: the caller's scope and policy alone judge what is not about a space."""
    return [_judge(caller, place, runtimes, operation) for operation in operations]


def judge_nowhere(caller: Caller, operations: Iterable[AnyOperation]) -> list[Judgement]:
    """For a caller who has no space."""
    return [_judge_nowhere(caller, operation) for operation in operations]


def _judge_nowhere(caller: Caller, operation: AnyOperation) -> Judgement:
    if operation.refusal(caller.scope):
        return _no(operation, "outside the scope here", who_widens(operation, caller, None))
    if operation.in_space and not is_anywhere(operation, caller, DEFAULT_SPACE):
        return _no(operation, "you have no space yet", "space_create name=work")
    return _by_policy(operation, caller.policy)


def _judge(caller: Caller, place: SpacePlace, runtimes: list[Runtime], operation: AnyOperation) -> Judgement:
    scope = narrow_again(caller.scope, place.ceiling) if operation.in_space else caller.scope
    if operation.refusal(scope):
        ceiling = place.ceiling if operation.in_space else None
        return _no(operation, "outside the scope here", who_widens(operation, caller, ceiling))
    if operation.needs_running_space and not place.running:
        return _no(operation, "the space is stopped", f"space_up space={place.name}")
    missing = _missing_runtime(operation, runtimes)
    if missing is not None:
        return _no(operation, missing, _launch(_kind_of(operation), place, runtimes))
    return _by_policy(operation, place.policy if operation.in_space else caller.policy)


def _by_policy(operation: AnyOperation, policy: Policy) -> Judgement:
    match _decide(operation, policy):
        case Deny() as denied:
            return _no(operation, f"{denied.reason} ({denied.rule})", denied.suggestion)
        case Ask() as ask:
            return Judgement(operation, asks=ask.reason)
        case _:
            return Judgement(operation)


def _no(operation: AnyOperation, why: str, instead: str) -> Judgement:
    return Judgement(operation, refusal=Refusal(why, instead))


def _decide(operation: AnyOperation, policy: Policy) -> Decision:
    facts = operation.facts(operation.input.model_validate(operation.example))
    return decide(policy, operation_id=operation.id, effect=operation.effect, facts=facts)


def _missing_runtime(operation: AnyOperation, runtimes: list[Runtime]) -> str | None:
    """Why there is no runtime that the operation works on; None where there is one, or none is needed."""
    # Jobs are named without their sandbox, and are judged by it all the same.
    if not operation.in_runtime and operation.noun != "job":
        return None
    usable = runtimes = [one for one in runtimes if one.kind == _kind_of(operation)]
    if operation.needs_active_runtime:
        usable = [one for one in runtimes if one.state is RuntimeState.ACTIVE]
    if not usable:
        return f"no active {_kind_of(operation)}" if runtimes else f"no {_kind_of(operation)}"
    if not any(one.ceiling.permits_operation(operation.id) for one in usable):
        return "outside the scope of the runtimes here"
    return None


def _launch(kind: str, place: SpacePlace, runtimes: list[Runtime]) -> str:
    """The one that ran last, with its files, where there is one: without its alias another would be made."""
    stopped = [one for one in runtimes if one.kind == kind and not one.holds]
    if not stopped:
        return f"{kind}_launch space={place.name}"
    last = max(stopped, key=lambda one: one.started_at or one.created_at)
    return f"{kind}_launch space={place.name} alias={last.alias}"


def _kind_of(operation: AnyOperation) -> str:
    return RuntimeKind.BROWSER if operation.noun == "browser" else RuntimeKind.SANDBOX
