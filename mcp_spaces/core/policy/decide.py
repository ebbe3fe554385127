"""Policy: what one call may do. A pure function over the policy, the operation's effect and typed facts.

A verdict is the strictest of all that apply: the facts' own rules, the effect's, the single operation's.
Deny beats ask beats allow.
"""

from __future__ import annotations

from typing import assert_never

from mcp_spaces.core.effect import Effect
from mcp_spaces.core.facts import (
    Access,
    BrowserFacts,
    BrowserUse,
    Facts,
    FileFacts,
    NoFacts,
    SecretFacts,
    SecretUse,
    ShellFacts,
)
from mcp_spaces.core.policy.files import decide_file
from mcp_spaces.core.policy.model import Browser, BrowserLevel, Policy, Secrets, ShellMode
from mcp_spaces.core.policy.shell.dangers import inside_folders
from mcp_spaces.core.policy.shell.verdicts import decide_shell
from mcp_spaces.core.policy.shell.words import Word
from mcp_spaces.core.policy.verdict import (
    ALLOWED,
    Answer,
    Decision,
    Deny,
    Verdict,
    answer_of,
    decision_for,
    strictest,
)

RAW_READ_OPERATION = "vault.get"
"""What is handed to a command as it is gets the same verdict as what is shown."""


def decide(policy: Policy, *, operation_id: str, effect: Effect, facts: Facts) -> Decision:
    """Whether the call may go on. What no rule speaks of is decided by its effect; an effect without a verdict is no."""
    return _judge(policy, operation_id=operation_id, effect=effect, facts=facts)[0]


def explain(policy: Policy, *, operation_id: str, effect: Effect, facts: Facts) -> Verdict:
    """The same answer, for reading."""
    decision, commands = _judge(policy, operation_id=operation_id, effect=effect, facts=facts)
    return Verdict(answer_of(decision), decision.rule, decision.reason, decision.suggestion, commands)


def _judge(policy: Policy, *, operation_id: str, effect: Effect, facts: Facts) -> tuple[Decision, tuple[str, ...]]:
    commands: tuple[str, ...] = ()
    content: Decision
    match facts:
        case FileFacts():
            content = strictest(decide_file(policy.files, facts), _recursive_delete(policy, facts))
        case ShellFacts():
            shell, commands = decide_shell(policy, facts)
            reads = (
                decide(policy, operation_id=RAW_READ_OPERATION, effect=Effect.READS, facts=one) for one in facts.secrets
            )
            content = strictest(shell, *reads)
        case SecretFacts(_, SecretUse.BROWSER_FILL):
            # Signing in acts in a browser, whatever else it does.
            content = strictest(_secret(policy.secrets, facts), _browser(policy.browser, BrowserUse.INTERACT))
        case SecretFacts():
            content = _secret(policy.secrets, facts)
        case BrowserFacts():
            content = _browser(policy.browser, facts.use)
        case NoFacts():
            content = _without_facts(policy, effect)
        case unreachable:
            assert_never(unreachable)
    return strictest(content, _effect(policy, effect), _operation(policy, operation_id)), commands


def _recursive_delete(policy: Policy, facts: FileFacts) -> Decision:
    """The same verdict as for `rm -r`: which way a tree goes makes no difference."""
    word = Word(facts.path)
    if not facts.recursive or facts.access is not Access.DELETE or inside_folders(word, policy.shell.build_folders):
        return ALLOWED
    return decision_for(
        policy.shell.recursive_delete,
        rule="shell.recursive_delete",
        reason=f"{facts.path} is not surely a build folder, and all of it would be deleted.",
        suggestion="Delete single files, or a build folder.",
    )


def _secret(secrets: Secrets, facts: SecretFacts) -> Decision:
    match facts.use:
        case SecretUse.RAW_READ:
            return decision_for(
                secrets.raw_reads,
                rule="secrets.raw_reads",
                reason=f"{facts.path} would be shown as it is.",
                suggestion="Use it unseen: {{vault:PATH}} in a header of an http:// request is filled in by the gateway,"
                " for the secret's own origins; or ask for a one-time code.",
            )
        case SecretUse.BROWSER_FILL | SecretUse.TOTP_FILL | SecretUse.GATEWAY_INJECT:
            return decision_for(
                secrets.use,
                rule="secrets.use",
                reason=f"{facts.path} would be used ({facts.use}).",
                suggestion="Go on without it.",
            )
        case unreachable:
            assert_never(unreachable)


_NEEDS = {
    BrowserUse.READ: BrowserLevel.READ,
    BrowserUse.INTERACT: BrowserLevel.INTERACT,
    BrowserUse.EVALUATE: BrowserLevel.INTERACT,
    BrowserUse.CONNECT: BrowserLevel.ALL,
}


_INSTEAD = {
    BrowserLevel.READ: "Look with browser_navigate, browser_snapshot and browser_screenshot.",
    BrowserLevel.INTERACT: "Act with browser_click, browser_fill or browser_execute.",
}


def _browser(browser: Browser, use: BrowserUse) -> Decision:
    levels = list(BrowserLevel)
    if levels.index(browser.level) < levels.index(_NEEDS[use]):
        return Deny(
            "browser.level",
            f"This policy's browsers may {browser.level}, and this call would {use}."
            if browser.level is not BrowserLevel.NONE
            else "This policy has no browsers.",
            _INSTEAD.get(browser.level, "Do it without a browser."),
        )
    if use in (BrowserUse.EVALUATE, BrowserUse.CONNECT):
        return decision_for(
            browser.evaluate,
            rule="browser.evaluate",
            reason="A script of the caller's own would run in the page."
            if use is BrowserUse.EVALUATE
            else "A program of the caller's own would control the browser.",
            suggestion="Use browser_snapshot to read and browser_click or browser_fill to act.",
        )
    return ALLOWED


def _without_facts(policy: Policy, effect: Effect) -> Decision:
    if effect is Effect.EXECUTES and policy.shell.mode is ShellMode.NONE:
        return Deny("shell.mode", "This policy runs no commands.", "Use the file operations instead.")
    return ALLOWED


def _effect(policy: Policy, effect: Effect) -> Decision:
    answer: Answer = getattr(policy.effects, effect.value)
    return decision_for(
        answer,
        rule=f"effects.{effect}",
        reason=f"The policy's verdict on an operation that {effect} is {answer}.",
        suggestion="Do it with operations of a lesser effect.",
    )


def _operation(policy: Policy, operation_id: str) -> Decision:
    answer = policy.operations.get(operation_id, Answer.ALLOW)
    return decision_for(
        answer,
        rule=f"operations.{operation_id}",
        reason=f"The policy's own rule for {operation_id} says {answer}.",
        suggestion="Use another operation, or ask the operator.",
    )
