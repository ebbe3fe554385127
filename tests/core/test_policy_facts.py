"""Browsers and secrets are judged by how far a call goes, commands also by what they are given."""

from __future__ import annotations

import pytest

from mcp_spaces.core.effect import Effect
from mcp_spaces.core.facts import (
    Access,
    BrowserFacts,
    BrowserUse,
    Facts,
    FileFacts,
    SecretFacts,
    SecretUse,
    ShellFacts,
)
from mcp_spaces.core.policy import Policy, policy_from
from mcp_spaces.core.policy.verdict import Answer
from tests.core.verdicts import call


def judged(policy: Policy, facts: Facts) -> tuple[str, str]:
    found = call(policy, "noun.verb", Effect.OBSERVES, facts)
    return found.decision, found.rule


@pytest.mark.parametrize(
    ("level", "answers"),
    [
        ("none", "deny deny deny deny"),
        ("read", "allow deny deny deny"),
        ("interact", "allow allow ask deny"),
        ("all", "allow allow ask ask"),
    ],
)
def test_a_browser_goes_as_far_as_its_level(level: str, answers: str) -> None:
    policy = policy_from("standard", {"browser": {"level": level, "evaluate": "ask"}})
    found = [judged(policy, BrowserFacts(use)) for use in BrowserUse]
    assert [decision for decision, _ in found] == answers.split()
    rules = {"deny": "browser.level", "ask": "browser.evaluate", "allow": "policy"}
    assert [rule for _, rule in found] == [rules[answer] for answer in answers.split()]


@pytest.mark.parametrize(
    ("use", "rule"),
    [
        (SecretUse.RAW_READ, "secrets.raw_reads"),
        (SecretUse.GATEWAY_INJECT, "secrets.use"),
        (SecretUse.TOTP_FILL, "secrets.use"),
        (SecretUse.BROWSER_FILL, "secrets.use"),
    ],
)
def test_a_secret_is_judged_by_what_it_is_opened_for(use: SecretUse, rule: str) -> None:
    for answer in ("ask", "deny"):
        section, _, key = rule.partition(".")
        policy = policy_from("permissive", {section: {"use": "allow", "raw_reads": "allow", key: answer}})
        assert judged(policy, SecretFacts("prod/a", use)) == (answer, rule)
    allowed = policy_from("permissive", {"secrets": {"use": "allow", "raw_reads": "allow"}})
    assert judged(allowed, SecretFacts("prod/a", use)) == ("allow", "policy")


def test_signing_in_needs_a_browser_that_may_act_whatever_the_secret_may() -> None:
    policy = policy_from("permissive", {"secrets": {"use": "allow"}, "browser": {"level": "read"}})
    assert judged(policy, SecretFacts("prod/a", SecretUse.BROWSER_FILL)) == ("deny", "browser.level")
    assert judged(policy, SecretFacts("prod/a", SecretUse.GATEWAY_INJECT)) == ("allow", "policy")


def test_where_no_command_runs_no_other_program_does() -> None:
    policy = policy_from("standard", {"shell": {"mode": "none"}, "effects": {"executes": "allow"}})
    found = call(policy, "noun.verb", Effect.EXECUTES)
    assert (found.decision, found.rule) == (Answer.DENY, "shell.mode")
    assert call(policy, "noun.verb", Effect.WRITES).decision is Answer.ALLOW


def test_only_deleting_a_whole_tree_is_a_recursive_delete() -> None:
    policy = policy_from("standard", {"shell": {"recursive_delete": "deny"}})
    assert judged(policy, FileFacts("src", Access.READ, recursive=True)) == ("allow", "policy")
    assert judged(policy, FileFacts("src", Access.DELETE)) == ("allow", "policy")
    assert judged(policy, FileFacts("src", Access.DELETE, recursive=True)) == ("deny", "shell.recursive_delete")


@pytest.mark.parametrize(
    ("preset", "shell", "name", "rule"),
    [
        ("standard", {}, "NAME", "policy"),
        ("standard", {}, "PATH", "shell.environment"),
        ("permissive", {}, "PATH", "policy"),
        ("permissive", {}, "GIT_PAGER", "policy"),
        ("permissive", {"execution_variables": "ask"}, "PATH", "shell.environment"),
        ("standard", {"execution_variables": "allow"}, "PATH", "shell.environment"),
    ],
)
def test_a_variable_that_changes_what_runs_is_given_only_where_all_is_allowed(
    preset: str, shell: dict[str, object], name: str, rule: str
) -> None:
    policy = policy_from(preset, {"shell": shell})
    assert judged(policy, ShellFacts("ls", variables=(name,)))[1] == rule
