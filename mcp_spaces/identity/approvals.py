"""The operator's answers to what agents ask: approval.list, approval.grant, approval.deny."""

from __future__ import annotations

from pydantic import Field

from mcp_spaces.core.answer import Answer
from mcp_spaces.core.approvals import Approval, Approvals
from mcp_spaces.core.changes import Change, Changes
from mcp_spaces.core.context import Context
from mcp_spaces.core.effect import Effect
from mcp_spaces.core.operation import AnyOperation, Audience, Operation, always
from mcp_spaces.core.place import Everywhere
from mcp_spaces.core.tasks import shielded


class ApprovalListInput(Everywhere):
    """Nothing to say."""


class ApprovalInput(Everywhere):
    approval: str = Field(max_length=64)


class ApprovalList(Answer):
    approvals: list[Approval]


async def list_approvals(context: Context, _: ApprovalListInput) -> ApprovalList:
    return ApprovalList(approvals=context.use(Approvals).pending())


async def grant(context: Context, wanted: ApprovalInput) -> Approval:
    return await _decide(context, wanted.approval, grant=True)


async def deny(context: Context, wanted: ApprovalInput) -> Approval:
    return await _decide(context, wanted.approval, grant=False)


async def _decide(context: Context, approval_id: str, *, grant: bool) -> Approval:
    async def announced() -> Approval:
        decided = await context.use(Approvals).decide(
            approval_id, grant=grant, decided_by=context.caller.principal_id, run_id=context.run_id
        )
        context.use(Changes).announce(Change("context", space_id=decided.space_id))
        return decided

    # It is decided even when the caller gives up, and then whoever waits for it has to hear of it.
    return await shielded(announced())


LIST = Operation(
    id="approval.list",
    summary="The calls that wait for a person's yes.",
    input=ApprovalListInput,
    output=ApprovalList,
    effect=Effect.OBSERVES,
    audience=Audience.OPERATOR,
    handler=list_approvals,
    idempotent=True,
)
GRANT = Operation(
    id="approval.grant",
    summary="Say yes to exactly one call; the agent repeats it.",
    input=ApprovalInput,
    output=Approval,
    effect=Effect.GOVERNS,
    audience=Audience.OPERATOR,
    handler=grant,
    needs_pin=always,
    example={"approval": "ap_aaaaaaaaaaaaaaaaaaaaaaaaaa"},
)
DENY = Operation(
    id="approval.deny",
    summary="Say no to a call that waits.",
    input=ApprovalInput,
    output=Approval,
    effect=Effect.GOVERNS,
    audience=Audience.OPERATOR,
    handler=deny,
    example={"approval": "ap_aaaaaaaaaaaaaaaaaaaaaaaaaa"},
)

OPERATIONS: tuple[AnyOperation, ...] = (LIST, GRANT, DENY)
