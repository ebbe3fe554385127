"""A decision that is remembered is the one that policy would make."""

from __future__ import annotations

import pytest

from mcp_spaces.core.effect import Effect
from mcp_spaces.core.facts import Access, Facts, FileFacts, NoFacts, SecretFacts, SecretUse, ShellFacts
from mcp_spaces.core.policy import PRESETS, Policy, decide, load_preset
from mcp_spaces.core.policy import remembered as decisions
from mcp_spaces.core.policy.remembered import CHARACTERS_MAX, decide_again

SHELL, EFFECT = "sandbox.shell", Effect.EXECUTES
FACTS: list[Facts] = [
    NoFacts(),
    FileFacts("a/.env", Access.READ),
    FileFacts("a/.env", Access.WRITE),
    FileFacts("a", Access.DELETE, recursive=True),
    ShellFacts("true"),
    ShellFacts("rm -rf src"),
    ShellFacts("git push"),
    ShellFacts("cat .env"),
    ShellFacts("cat env", cwd="a/.ssh"),
    ShellFacts("true", variables=("LD_PRELOAD",)),
    ShellFacts("true", secrets=(SecretFacts("prod/key", SecretUse.RAW_READ),)),
]


def test_it_says_what_policy_says_for_every_preset_first_and_again() -> None:
    policies = [load_preset(name) for name in PRESETS]
    asked = [(policy, facts) for policy in policies for facts in FACTS]
    said = [decide(policy, operation_id=SHELL, effect=EFFECT, facts=facts) for policy, facts in asked]
    assert len(set(map(repr, said))) > 5
    for _ in range(2):
        assert [decide_again(policy, operation_id=SHELL, effect=EFFECT, facts=facts) for policy, facts in asked] == said


def test_another_operation_or_effect_is_another_question() -> None:
    policy = load_preset("standard")
    for operation_id in ("sandbox.shell", "sandbox.write"):
        for effect in Effect:
            fresh = decide(policy, operation_id=operation_id, effect=effect, facts=NoFacts())
            assert decide_again(policy, operation_id=operation_id, effect=effect, facts=NoFacts()) == fresh


def test_a_command_is_read_once_and_a_long_one_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []

    def counted(policy: Policy, *, operation_id: str, effect: Effect, facts: ShellFacts) -> object:
        read.append(facts.command)
        return decide(policy, operation_id=operation_id, effect=effect, facts=facts)

    monkeypatch.setattr(decisions, "decide", counted)
    policy = load_preset("standard")
    short, long = "echo once", "echo " + "x" * CHARACTERS_MAX
    for command in (short, long, short, long):
        decide_again(policy, operation_id=SHELL, effect=EFFECT, facts=ShellFacts(command))
    assert read == [short, long, long]
