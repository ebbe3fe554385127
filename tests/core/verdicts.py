"""Policy's verdict on one command, and on one call."""

from __future__ import annotations

from mcp_spaces.core.effect import Effect
from mcp_spaces.core.facts import Facts, NoFacts, ShellFacts
from mcp_spaces.core.policy import Policy, Verdict, explain, load_preset


def shell(command: str, policy: Policy | str = "standard") -> Verdict:
    chosen = load_preset(policy) if isinstance(policy, str) else policy
    return explain(chosen, operation_id="sandbox.shell", effect=Effect.EXECUTES, facts=ShellFacts(command))


def call(policy: Policy, operation_id: str, effect: Effect, facts: Facts | None = None) -> Verdict:
    return explain(policy, operation_id=operation_id, effect=effect, facts=facts or NoFacts())
