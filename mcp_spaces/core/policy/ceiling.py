"""Is one policy within another? A principal's policy is the ceiling of every space that it makes."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum

from mcp_spaces.core.policy.model import BrowserLevel, FilesAccess, Policy, Shell, ShellMode
from mcp_spaces.core.policy.verdict import Answer
from mcp_spaces.core.scope import NetworkMode

_ORDERS: tuple[type[StrEnum], ...] = (FilesAccess, ShellMode, NetworkMode, BrowserLevel)
# More of these makes a policy wider; more of all other lists makes it narrower.
_WIDENING_LISTS = frozenset({"shell.commands", "shell.build_folders"})
_SHELL_ALONE = frozenset(f"shell.{key}" for key in Shell.model_fields) - {
    "shell.mode",
    "shell.recursive_delete",
    "shell.build_folders",
}
_NARROWING_LISTS = frozenset({"shell.blocked", "files.blocked_paths"})


def policy_excess(outer: Policy, inner: Policy) -> list[str]:
    """The keys in which `inner` is wider than `outer`; empty where it is within."""
    return sorted(_wider(outer, inner))


def _wider(outer: Policy, inner: Policy) -> Iterator[str]:
    for section in ("files", "shell", "network", "secrets", "browser", "effects"):
        ours, theirs = getattr(outer, section), getattr(inner, section)
        for key in type(ours).model_fields:
            name = f"{section}.{key}"
            if _is_wider(name, getattr(ours, key), getattr(theirs, key), outer=outer, inner=inner):
                yield name
    for operation_id, answer in outer.operations.items():
        if inner.operations.get(operation_id, Answer.ALLOW).strictness < answer.strictness:
            yield f"operations.{operation_id}"


def _is_wider(name: str, ours: object, theirs: object, *, outer: Policy, inner: Policy) -> bool:
    # A shell that runs nothing is within any; what file operations are judged by as well counts all the same.
    if name in _SHELL_ALONE and inner.shell.mode is ShellMode.NONE:
        return False
    if isinstance(ours, Answer) and isinstance(theirs, Answer):
        return theirs.strictness < ours.strictness
    if isinstance(ours, StrEnum):
        order: list[object] = next(list(kind) for kind in _ORDERS if isinstance(ours, kind))
        return order.index(theirs) > order.index(ours)
    if isinstance(ours, int) and isinstance(theirs, int):
        return theirs > ours
    if isinstance(ours, tuple) and isinstance(theirs, tuple):
        if name == "shell.commands":
            # Only the curated mode reads the list.
            return (
                outer.shell.mode is ShellMode.CURATED
                and inner.shell.mode is ShellMode.CURATED
                and not set(theirs) <= set(ours)
            )
        if name in _WIDENING_LISTS:
            return not set(theirs) <= set(ours)
        if name in _NARROWING_LISTS:
            return not set(ours) <= set(theirs)
    raise AssertionError(f"{name} has no order")
