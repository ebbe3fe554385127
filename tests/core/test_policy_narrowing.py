"""A policy within another never says more, whatever it is asked."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcp_spaces.core.effect import Effect
from mcp_spaces.core.facts import Access, Facts, FileFacts, NoFacts, ShellFacts
from mcp_spaces.core.policy import PRESETS, Policy, explain, load_preset, policy_excess, policy_from
from tests.core.everyday_commands import ALLOWED
from tests.core.judged_commands import JUDGED

_WIDTHS = st.fixed_dictionaries(
    {},
    optional={
        "files": st.fixed_dictionaries(
            {},
            optional={
                "access": st.sampled_from(["none", "read", "read_write"]),
                "max_file_bytes": st.integers(0, 100),
                "blocked_paths": st.lists(st.sampled_from(["*.env", ".*", "*.key"])),
            },
        ),
        "shell": st.fixed_dictionaries(
            {},
            optional={
                "mode": st.sampled_from(["none", "curated", "all"]),
                "commands": st.lists(st.sampled_from(["ls", "git", "rm", "nc", "sh", "find"])),
                "blocked": st.lists(st.sampled_from(["sudo", "nc"])),
                "build_folders": st.lists(st.sampled_from(["build", "dist"])),
                **{
                    key: st.sampled_from(["allow", "ask", "deny"])
                    for key in ("dynamic_command", "hidden_command", "execution_variables", "outside_programs")
                },
                **{
                    key: st.sampled_from(["allow", "ask", "deny"])
                    for key in ("recursive_delete", "recursive_permissions", "setuid_bits", "git_push", "publish")
                },
            },
        ),
        "secrets": st.fixed_dictionaries({}, optional={"raw_reads": st.sampled_from(["allow", "ask", "deny"])}),
        "browser": st.fixed_dictionaries(
            {},
            optional={
                "level": st.sampled_from(["none", "read", "interact", "all"]),
                "evaluate": st.sampled_from(["allow", "ask", "deny"]),
            },
        ),
        "effects": st.fixed_dictionaries({}, optional={"deletes": st.sampled_from(["allow", "ask", "deny"])}),
        "operations": st.dictionaries(
            st.sampled_from(["sandbox.shell", "storage.read"]), st.sampled_from(["allow", "ask", "deny"])
        ),
    },
)


_POLICIES = st.builds(policy_from, st.sampled_from(PRESETS), _WIDTHS)


_FACTS = st.one_of(
    st.just(NoFacts()),
    st.builds(
        FileFacts,
        st.sampled_from(["a.txt", "x/.env", "a.key", ".hidden", "dist"]),
        st.sampled_from(Access),
        st.none() | st.integers(0, 200),
        st.booleans(),
    ),
    st.sampled_from(ALLOWED + [row[3] for row in JUDGED]).map(ShellFacts),
)


_OPERATIONS = st.sampled_from(
    "sandbox.shell sandbox.write_file space.delete storage.upload job.write sandbox.launch".split()
)


def _brought_within(outer: Policy, inner: Policy) -> Policy:
    """`inner`, with the ceiling's value for each key that is wider than it."""
    table, ceiling = inner.model_dump(mode="json"), outer.model_dump(mode="json")
    while wider := policy_excess(outer, policy_from("standard", table)):
        for key in wider:
            section, _, name = key.partition(".")
            table[section][name] = ceiling[section][name]
    return policy_from("standard", table)


@given(_POLICIES, _POLICIES, _OPERATIONS, st.sampled_from(Effect), _FACTS)
@settings(max_examples=600, deadline=None)
def test_a_policy_within_another_never_says_more(
    outer: Policy, inner: Policy, operation_id: str, effect: Effect, facts: Facts
) -> None:
    inner = _brought_within(outer, inner)
    assert policy_excess(outer, inner) == []
    wide = explain(outer, operation_id=operation_id, effect=effect, facts=facts)
    narrow = explain(inner, operation_id=operation_id, effect=effect, facts=facts)
    assert narrow.decision.strictness >= wide.decision.strictness


@given(_POLICIES)
@settings(max_examples=50, deadline=None)
def test_every_policy_is_within_itself(policy: Policy) -> None:
    assert policy_excess(policy, policy) == []


@pytest.mark.parametrize(
    ("outer", "inner"), [("permissive", "standard"), ("permissive", "restrictive"), ("standard", "restrictive")]
)
def test_the_presets_are_a_chain(outer: str, inner: str) -> None:
    assert policy_excess(load_preset(outer), load_preset(inner)) == []
    assert policy_excess(load_preset(inner), load_preset(outer))


def test_the_ceiling_names_each_key_that_is_wider() -> None:
    inner = policy_from(
        "standard", {"shell": {"git_push": "allow", "blocked": []}, "files": {"max_file_bytes": 1 << 30}}
    )
    assert policy_excess(load_preset("standard"), inner) == ["files.max_file_bytes", "shell.blocked", "shell.git_push"]


@pytest.mark.parametrize(("key", "value"), [("recursive_delete", "allow"), ("build_folders", ["src"])])
def test_a_shell_that_is_off_hides_nothing_that_file_operations_are_judged_by(key: str, value: object) -> None:
    inner = policy_from("standard", {"shell": {"mode": "none", key: value}})
    assert policy_excess(load_preset("standard"), inner) == [f"shell.{key}"]
