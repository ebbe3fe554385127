"""Policy's answer for one call."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class Allow:
    rule: str
    reason: str
    suggestion: str = ""


@dataclass(frozen=True, slots=True)
class Ask:
    """A person has to say yes to exactly this call."""

    rule: str
    reason: str
    suggestion: str


@dataclass(frozen=True, slots=True)
class Deny:
    rule: str
    reason: str
    suggestion: str


Decision = Allow | Ask | Deny
"""`rule` is the key of the policy that decided, `reason` a sentence, `suggestion` what to do instead."""

ALLOWED = Allow("policy", "No rule stands against it.")


class Answer(StrEnum):
    """What a policy's table says, from the widest to the narrowest."""

    ALLOW = "allow"
    ASK = "ask"
    DENY = "deny"

    @property
    def strictness(self) -> int:
        return list(Answer).index(self)


def answer_of(decision: Decision) -> Answer:
    return {Allow: Answer.ALLOW, Ask: Answer.ASK, Deny: Answer.DENY}[type(decision)]


def decision_for(answer: Answer, *, rule: str, reason: str, suggestion: str) -> Decision:
    match answer:
        case Answer.ALLOW:
            return ALLOWED
        case Answer.ASK:
            return Ask(rule, reason, f"{suggestion} Or have a person approve this call.")
        case Answer.DENY:
            return Deny(rule, reason, suggestion)


def strictest(*decisions: Decision) -> Decision:
    """Deny beats ask beats allow; among equals the first, so the most telling one comes first."""
    return max(decisions, key=_strictness)


_STRICTNESS = {Allow: 0, Ask: 1, Deny: 2}


def _strictness(decision: Decision) -> int:
    return _STRICTNESS[type(decision)]


@dataclass(frozen=True, slots=True)
class Verdict:
    """A decision for reading: what `policy.explain` shows. `commands` are those that were judged, as text."""

    decision: Answer
    rule: str
    reason: str
    suggestion: str
    commands: tuple[str, ...] = ()
