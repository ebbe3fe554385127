"""Policy: verdicts and limits. What one call may do is a pure function of policy, effect and typed facts."""

from __future__ import annotations

from mcp_spaces.core.policy.ceiling import policy_excess
from mcp_spaces.core.policy.decide import decide, explain
from mcp_spaces.core.policy.model import Policy
from mcp_spaces.core.policy.presets import PRESETS, load_preset, policy_from
from mcp_spaces.core.policy.verdict import Allow, Answer, Ask, Decision, Deny, Verdict

__all__ = [
    "PRESETS",
    "Allow",
    "Answer",
    "Ask",
    "Decision",
    "Deny",
    "Policy",
    "Verdict",
    "decide",
    "explain",
    "load_preset",
    "policy_excess",
    "policy_from",
]
