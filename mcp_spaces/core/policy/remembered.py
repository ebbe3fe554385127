"""`decide`, remembered: agents repeat their commands, and reading one as bash does takes longer than all other steps."""

from __future__ import annotations

from functools import lru_cache

from mcp_spaces.core.effect import Effect
from mcp_spaces.core.facts import Facts, ShellFacts
from mcp_spaces.core.policy.decide import decide
from mcp_spaces.core.policy.model import Policy
from mcp_spaces.core.policy.verdict import Decision
from mcp_spaces.core.same import Same

REMEMBERED = 1_024
CHARACTERS_MAX = 1_024
"""Of a command whose decision is remembered: scripts that are longer are seldom sent twice."""


def decide_again(policy: Policy, *, operation_id: str, effect: Effect, facts: Facts) -> Decision:
    """What `decide` says: it is a pure function, so that what it said once it says again. Policies are told apart as
    objects; the store gives the same one for the same choice."""
    if isinstance(facts, ShellFacts) and len(facts.command) > CHARACTERS_MAX:
        return decide(policy, operation_id=operation_id, effect=effect, facts=facts)
    return _decided(Same(policy), operation_id, effect, facts)


@lru_cache(maxsize=REMEMBERED)
def _decided(policy: Same[Policy], operation_id: str, effect: Effect, facts: Facts) -> Decision:
    return decide(policy.value, operation_id=operation_id, effect=effect, facts=facts)
