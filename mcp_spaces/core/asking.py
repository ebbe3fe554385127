"""The pipeline's sixth step: use up a person's yes to this call, or ask for one."""

from __future__ import annotations

from mcp_spaces.core.approvals import Approval, Approvals, ApprovalState
from mcp_spaces.core.call import Call
from mcp_spaces.core.policy import Ask
from mcp_spaces.core.redaction import without
from mcp_spaces.errors import ApprovalNeeded, Denied


async def ask(approvals: Approvals, call: Call, decision: Ask) -> None:
    """Raises ApprovalNeeded, Denied or QuotaExceeded."""
    if call.operation.in_space and call.space is None:
        # The person who would be asked is the one who calls, in no agent's space.
        call.run.decision = {**(call.run.decision or {}), "answer": "operator"}
        return
    settled = await approvals.settle(_request(approvals, call, decision))
    call.run.decision = {**(call.run.decision or {}), "approval": settled.id, "answer": settled.state}
    if settled.state is ApprovalState.DENIED:
        raise Denied("A person said no to this call.", hint="Choose another way, or ask them.", rule=decision.rule)
    if settled.state is not ApprovalState.CONSUMED:
        hint = f"A person has to run `mcp-spaces approve {settled.id}`; then repeat this call unchanged."
        if call.caller.operator:
            hint = "Nobody approves their own call: use `mcp-spaces connect`, or let the space's policy permit it."
        raise ApprovalNeeded(decision.reason, hint=hint, approval_id=settled.id, rule=decision.rule)


def _request(approvals: Approvals, call: Call, decision: Ask) -> Approval:
    return approvals.request(
        fingerprint=call.fingerprint(policy_version=call.policy.version),
        operation=call.operation.id,
        principal_id=call.caller.principal_id,
        principal_name=call.caller.name,
        space_id=call.run.space_id,
        space_name=None if call.space is None else call.space.name,
        run_id=call.run.id,
        reason=decision.reason,
        rule=decision.rule,
        input_json=without([call.redactor, *call.known], call.input.model_dump_json()),
    )
