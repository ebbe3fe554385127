"""The tree of processes, as killing sees it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mcp_spaces.sandbox.agent.processes import below

ROOT = 1


@given(st.permutations(range(2, 30)), st.lists(st.integers(0, 10**6), min_size=28, max_size=28))
def test_parents_come_before_their_children_whatever_their_numbers(pids: list[int], choices: list[int]) -> None:
    """A shell whose child is killed first goes on with its next command."""
    tree = {ROOT: (0, True)}
    placed = [ROOT]
    for pid, choice in zip(pids, choices, strict=True):
        tree[pid] = (placed[choice % len(placed)], True)
        placed.append(pid)
    tree[100] = (99, True)  # somebody else's
    found = below({ROOT}, tree)
    assert sorted(found) == sorted(pids)
    at = {pid: place for place, pid in enumerate(found)}
    assert all(at[tree[pid][0]] < at[pid] for pid in found if tree[pid][0] != ROOT)
