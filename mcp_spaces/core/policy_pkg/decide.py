"""Policy: what one call may do. A pure function over the policy, the operation's effect and typed facts.

A verdict is the strictest of all that apply: the facts' own rules, the effect's, the single operation's.
Deny beats ask beats allow.
"""

from __future__ import annotations

from typing import assert_never

from mcp_spaces.core.effect import Effect
from mcp_spaces.core.facts import Facts, FileFacts, NoFacts, ShellFacts
from mcp_spaces.core.file_policy import decide_access, decide_file
from mcp_spaces.core.policy_ceiling import covers
from mcp_spaces.core.policy_model import BrowserLevel, Policy, ShellMode
from mcp_spaces.core.policy_presets import PRESETS, load_preset, parse_policy, policy_from
from mcp_spaces.core.shell_policy import decide_shell
from mcp_spaces.core.verdict import (
    ALLOWED,
    Allow,
    Answer,
    Ask,
    Decision,
    Deny,
    Verdict,
    answer_of,
    decision_for,
    strictest,
)

__all__ = [
    "PRESETS",
    "Allow",
    "Answer",
    "Ask",
    "Decision",
    "Deny",
    "Policy",
    "Verdict",
    "covers",
    "decide",
    "decide_secret_use",
    "explain",
    "load_preset",
    "parse_policy",
    "policy_from",
]

# Runtimes and spaces come and go whatever a policy says about content: role, scope and limits judge that.
_LIFECYCLE_VERBS = frozenset({"launch", "start", "stop", "close"})
_LIFECYCLE = frozenset({"sandbox.delete", "browser.delete", "run.cancel", "job.stop"})
_BROWSER_READS = frozenset(
    "navigate reload back forward snapshot screenshot pdf content text wait_for console network pages open activate"
    " list get state".split()
)
_BROWSER_INTERACTS = _BROWSER_READS | frozenset(
    "click fill select press type hover check drag upload login dialog download resize scroll tap".split()
)
_BROWSER_EVALUATES = frozenset({"browser.evaluate", "page.evaluate", "frame.evaluate", "locator.evaluate"})
_AGENT_READS = frozenset({"agent.observe", "agent.extract"})
_SECRET_USES = frozenset({"browser.login", "vault.totp"})
_SECRET_READS = frozenset({"vault.get"})


def decide(policy: Policy, *, operation_id: str, effect: Effect, facts: Facts) -> Decision:
    """Whether the call may go on. What no rule speaks of is decided by its effect; an effect without a verdict is no."""
    return _judge(policy, operation_id=operation_id, effect=effect, facts=facts)[0]


def explain(policy: Policy, *, operation_id: str, effect: Effect, facts: Facts) -> Verdict:
    """The same answer, for reading."""
    decision, commands = _judge(policy, operation_id=operation_id, effect=effect, facts=facts)
    return Verdict(answer_of(decision), decision.rule, decision.reason, decision.suggestion, commands)


def decide_secret_use(policy: Policy) -> Decision:
    """May a secret be put into a request at the gateway, where no operation is called?"""
    return decision_for(
        policy.secrets.use,
        rule="secrets.use",
        reason="The policy's verdict on using secrets.",
        suggestion="Have a person approve it, or go on without signing in.",
    )


def _judge(policy: Policy, *, operation_id: str, effect: Effect, facts: Facts) -> tuple[Decision, tuple[str, ...]]:
    commands: tuple[str, ...] = ()
    content: Decision
    match facts:
        case FileFacts():
            content = decide_file(policy.files, facts)
        case ShellFacts(command):
            content, commands = decide_shell(policy, command)
        case NoFacts():
            content = _without_facts(policy, operation_id, effect)
        case unreachable:
            assert_never(unreachable)
    return strictest(
        content,
        _secrets(policy, operation_id),
        _effect(policy, operation_id, effect, facts),
        _operation(policy, operation_id),
    ), commands


def _without_facts(policy: Policy, operation_id: str, effect: Effect) -> Decision:
    match effect:
        case Effect.OBSERVES | Effect.COMPOSES | Effect.GOVERNS:
            return ALLOWED
        case Effect.READS | Effect.CREATES | Effect.WRITES | Effect.DELETES | Effect.EXECUTES:
            if _is_lifecycle(operation_id):
                return ALLOWED
            if _is_browser(operation_id):
                return _browser(policy, operation_id)
        case unreachable:
            assert_never(unreachable)
    if effect is Effect.EXECUTES:
        if policy.shell.mode is ShellMode.NONE:
            return Deny("shell.mode", "This policy runs no commands.", "Use the file operations instead.")
        return ALLOWED
    if operation_id.startswith("sandbox."):
        return decide_access(policy.files, reads=effect is Effect.READS)
    return ALLOWED


def _is_lifecycle(operation_id: str) -> bool:
    noun, _, verb = operation_id.partition(".")
    return noun == "space" or operation_id in _LIFECYCLE or noun in {"sandbox", "browser"} and verb in _LIFECYCLE_VERBS


def _is_browser(operation_id: str) -> bool:
    return operation_id.partition(".")[0] in {"browser", "page", "frame", "locator", "context", "agent"}


def _browser(policy: Policy, operation_id: str) -> Decision:
    order = list(BrowserLevel)
    verb = operation_id.partition(".")[2]
    if operation_id in _BROWSER_EVALUATES:
        needed = BrowserLevel.INTERACT
    elif operation_id in _AGENT_READS or operation_id.startswith("browser.") and verb in _BROWSER_READS:
        needed = BrowserLevel.READ
    elif operation_id.startswith("agent.") or operation_id.startswith("browser.") and verb in _BROWSER_INTERACTS:
        needed = BrowserLevel.INTERACT
    else:
        needed = BrowserLevel.ALL
    if order.index(policy.browser.level) < order.index(needed):
        return Deny(
            "browser.level",
            f"{operation_id} needs the browser level {needed}; the policy gives {policy.browser.level}.",
            "Navigate, take snapshots and screenshots, or ask for a space with a wider policy.",
        )
    if operation_id in _BROWSER_EVALUATES:
        return decision_for(
            policy.browser.evaluate,
            rule="browser.evaluate",
            reason="Code of the caller's would run inside the page.",
            suggestion="Use snapshot, click and fill, or have a person approve this script.",
        )
    return ALLOWED


def _secrets(policy: Policy, operation_id: str) -> Decision:
    if operation_id in _SECRET_READS:
        return decision_for(
            policy.secrets.raw_reads,
            rule="secrets.raw_reads",
            reason="The secret's value would reach the caller.",
            suggestion="Use the secret without seeing it: browser.login, or a reference at the gateway.",
        )
    return decide_secret_use(policy) if operation_id in _SECRET_USES else ALLOWED


def _effect(policy: Policy, operation_id: str, effect: Effect, facts: Facts) -> Decision:
    if isinstance(facts, NoFacts) and (_is_lifecycle(operation_id) or _is_browser(operation_id)):
        return ALLOWED
    answer: Answer = getattr(policy.effects, effect.value)
    return decision_for(
        answer,
        rule=f"effects.{effect}",
        reason=f"The policy's verdict on an operation that {effect} is {answer}.",
        suggestion="Do it with operations of a lesser effect, or have a person approve it.",
    )


def _operation(policy: Policy, operation_id: str) -> Decision:
    return decision_for(
        policy.operations.get(operation_id, Answer.ALLOW),
        rule=f"operations.{operation_id}",
        reason=f"The policy has its own verdict on {operation_id}.",
        suggestion="Use another operation, or ask the operator.",
    )
