"""Two ways to match a glob, the agent's and the fallback's, mean the same and never take long."""

from __future__ import annotations

import time

from hypothesis import given
from hypothesis import strategies as st

from mcp_spaces.sandbox.agent.globs import glob_matcher
from mcp_spaces.sandbox.globs import matches

NAMES = st.text(alphabet="abé.-]\n", min_size=1, max_size=4)
PATHS = st.lists(NAMES, min_size=1, max_size=4).map("/".join)
PARTS = st.one_of(
    st.just("**"),
    st.text(alphabet="abé.*?", min_size=1, max_size=5),
    st.sampled_from(["[ab]*", "[!a]", "[a-b]?", "[", "*]", "[é]", "[*]*", "*[a-é]*b"]),
)
PATTERNS = st.lists(PARTS, min_size=1, max_size=6).map("/".join)


@given(PATTERNS, PATHS)
def test_both_matchers_agree(pattern: str, path: str) -> None:
    assert matches(pattern, path) == bool(glob_matcher(pattern.encode())(path.encode()))


def test_no_pattern_and_no_name_take_long() -> None:
    # Of the processor: what else runs here does not count.
    began = time.thread_time()
    for pattern, path in (
        ("*a" * 200 + "b", "a" * 255),
        ("**/" * 50 + "x", "a/" * 100 + "y"),
        ("**/a/" * 50 + "x", "a/" * 100 + "y"),
        ("**/*a*a/" * 50 + "x", "aaa/" * 100 + "y"),
    ):
        assert not matches(pattern, path)
        assert not glob_matcher(pattern.encode())(path.encode())
    assert time.thread_time() - began < 0.5
