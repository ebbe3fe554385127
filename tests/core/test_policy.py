"""Policy's answers by preset and by effect, and how a preset is overridden."""

from __future__ import annotations

import pytest

from mcp_spaces.core.effect import Effect
from mcp_spaces.core.facts import NoFacts
from mcp_spaces.core.policy import PRESETS, Allow, Deny, Policy, decide, load_preset, policy_from
from mcp_spaces.core.policy.verdict import Answer
from mcp_spaces.errors import InvalidInput
from tests.core.verdicts import call, shell


def test_a_policy_that_says_nothing_allows_nothing_but_looking() -> None:
    silent = Policy(name="silent")
    for effect in Effect:
        decision = decide(silent, operation_id="storage.put", effect=effect, facts=NoFacts())
        looking = effect in {Effect.OBSERVES, Effect.COMPOSES, Effect.GOVERNS, Effect.STARTS, Effect.ENDS}
        assert isinstance(decision, Allow if looking else Deny)
    assert shell("ls", silent).rule == "shell.mode"


@pytest.mark.parametrize(
    ("operation_id", "effect", "answers"),
    [
        ("storage.put", Effect.WRITES, "deny allow allow"),
        ("sandbox.launch", Effect.STARTS, "allow allow allow"),
        ("space.delete", Effect.ENDS, "allow allow allow"),
        ("job.write", Effect.EXECUTES, "deny allow allow"),
        ("run.list", Effect.OBSERVES, "allow allow allow"),
        ("sandbox.run_operations", Effect.COMPOSES, "allow allow allow"),
    ],
)
def test_operations_without_facts_by_preset(operation_id: str, effect: Effect, answers: str) -> None:
    assert " ".join(call(load_preset(preset), operation_id, effect).decision for preset in PRESETS) == answers


def test_an_operations_own_verdict_narrows_and_never_widens() -> None:
    policy = policy_from("standard", {"operations": {"sandbox.shell": "ask", "storage.read": "allow"}})
    assert (shell("ls", policy).decision, shell("ls", policy).rule) == ("ask", "operations.sandbox.shell")
    assert getattr(shell("ls", policy), "reason", "") == "The policy's own rule for sandbox.shell says ask."
    assert shell("sudo ls", policy).decision is Answer.DENY


def test_overrides_merge_and_null_gives_the_presets_value() -> None:
    policy = policy_from("standard", {"shell": {"timeout_s": 5, "git_push": None}, "network": None})
    assert policy.shell.timeout_s == 5
    assert policy.shell.git_push is Answer.ASK
    assert policy.network == load_preset("standard").network
    assert policy.version != load_preset("standard").version
    assert policy_from("standard", {}).version == load_preset("standard").version


@pytest.mark.parametrize(
    ("overrides", "key"),
    [
        ({"shell": {"modes": "all"}}, "shell.modes"),
        ({"shell": {"mode": "most"}}, "shell.mode"),
        ({"shell": "all"}, "shell"),
        ({"files": {"max_file_bytes": "10"}}, "files.max_file_bytes"),
        ({"files": {"max_file_bytes": True}}, "files.max_file_bytes"),
        ({"operations": {"no verb": "ask"}}, "operations"),
        ({"effects": {"reads": "maybe"}}, "effects.reads"),
    ],
)
def test_a_wrong_override_is_named(overrides: dict[str, object], key: str) -> None:
    with pytest.raises(InvalidInput, match=key):
        policy_from("standard", overrides)


def test_a_key_that_does_not_exist_is_told_with_those_that_do() -> None:
    with pytest.raises(InvalidInput, match=r"shell\.modes is unknown") as caught:
        policy_from("standard", {"shell": {"modes": "all"}})
    assert {"mode", "timeout_s", "git_push"} <= set(caught.value.hint.removesuffix(".").split(": ")[1].split(", "))
    with pytest.raises(InvalidInput, match="shel is unknown") as caught:
        policy_from("standard", {"shel": {}})
    assert "shell, " in caught.value.hint


def test_an_unknown_preset_is_refused() -> None:
    with pytest.raises(InvalidInput, match="relaxed"):
        load_preset("relaxed")


@pytest.mark.parametrize("answer", ["ask", "deny"])
@pytest.mark.parametrize(
    ("key", "command"),
    [("git_push", "git push"), ("publish", "npm publish"), ("recursive_delete", "rm -r src")],
)
def test_a_person_s_yes_is_suggested_only_where_one_is_asked(key: str, command: str, answer: str) -> None:
    policy = policy_from("standard", {"shell": {key: answer}})
    decision = shell(command, policy)
    assert decision.rule == f"shell.{key}"
    assert ("have a person approve this call" in decision.suggestion) == (answer == "ask")
