"""Files are judged by path, access and size, and paths by patterns."""

from __future__ import annotations

from fnmatch import fnmatchcase

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcp_spaces.core.effect import Effect
from mcp_spaces.core.facts import Access, FileFacts
from mcp_spaces.core.policy import load_preset
from mcp_spaces.core.policy.files import globs_meet
from mcp_spaces.core.policy.verdict import Answer
from tests.core.verdicts import call, shell


@pytest.mark.parametrize(
    ("preset", "path", "access", "size", "rule"),
    [
        ("restrictive", "a.txt", Access.READ, 1, None),
        ("restrictive", "a.txt", Access.WRITE, 1, "files.access"),
        ("restrictive", "a.txt", Access.READ, 2 << 20, "files.max_file_bytes"),
        ("restrictive", "x/.hidden/a", Access.READ, 1, "files.blocked_paths"),
        ("restrictive", "./a/../b.txt", Access.READ, 1, None),
        ("standard", "a.txt", Access.WRITE, None, None),
        ("standard", "a.txt", Access.DELETE, None, None),
        ("standard", ".gitignore", Access.READ, 1, None),
        ("standard", ".env", Access.READ, 1, "files.blocked_paths"),
        ("standard", ".env.example", Access.READ, 1, None),
        ("standard", "a/PROD.ENV", Access.READ, 1, "files.blocked_paths"),
        ("standard", "a.key/b", Access.READ, 1, "files.blocked_paths"),
        ("standard", ".git/hooks/pre-commit", Access.WRITE, 1, "files.blocked_paths"),
        ("standard", "sub/.git/x/..//hooks/y", Access.WRITE, 1, "files.blocked_paths"),
        ("standard", ".git/config", Access.READ, 1, None),
        ("permissive", ".env", Access.READ, 1, None),
        ("permissive", "a.pem", Access.READ, 1, "files.blocked_paths"),
    ],
)
def test_files_are_judged_by_path_access_and_size(
    preset: str, path: str, access: Access, size: int | None, rule: str | None
) -> None:
    effect = {Access.READ: Effect.READS, Access.WRITE: Effect.WRITES, Access.DELETE: Effect.DELETES}[access]
    verdict = call(load_preset(preset), "sandbox.file", effect, FileFacts(path, access, size))
    assert (verdict.decision, verdict.rule) == (("deny", rule) if rule else ("allow", "policy"))


def test_a_recursive_delete_is_judged_alike_by_tool_and_by_shell() -> None:
    policy = load_preset("standard")
    for path, answer in (("src", Answer.ASK), ("build", Answer.ALLOW), ("pkg/node_modules/x", Answer.ALLOW)):
        facts = FileFacts(path, Access.DELETE, recursive=True)
        assert call(policy, "sandbox.delete_file", Effect.DELETES, facts).decision is answer
        assert shell(f"rm -r {path}", policy).decision is answer


def test_a_pattern_that_is_longer_than_any_name_is_not_tried_and_counts_as_blocked() -> None:
    assert shell(f"ls {'a' * 254}?").decision is Answer.ALLOW
    assert shell(f"ls {'a' * 255}?").rule == "files.blocked_paths"


_GLOBS = st.text(st.sampled_from("ab*?."), max_size=6)


@given(_GLOBS, _GLOBS, st.lists(st.text(st.sampled_from("ab."), max_size=7), max_size=20))
@settings(deadline=None)
def test_two_patterns_meet_where_one_name_fits_both(one: str, other: str, names: list[str]) -> None:
    if any(fnmatchcase(name, one) and fnmatchcase(name, other) for name in names):
        assert globs_meet(one, other)


@pytest.mark.parametrize(
    ("one", "other", "meets"),
    [
        ("prod.en?", "*.env", True),
        ("*.p?", "*.pem", False),
        ("a*", "b*", False),
        ("", "*", True),
        ("", "?", False),
        ("*a", "b*", True),
        ("x.[e]nv", "*.env", True),
        ("ab", "a", False),
    ],
)
def test_where_two_patterns_meet(one: str, other: str, meets: bool) -> None:
    assert globs_meet(one, other) is meets and globs_meet(other, one) is meets
