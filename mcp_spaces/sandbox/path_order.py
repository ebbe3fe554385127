"""In which order paths are told: a limit cuts off what comes last."""

from __future__ import annotations

from collections.abc import Callable

from mcp_spaces.sandbox.agent.trees import is_others_work

Place = list[tuple[bool, str]]
Order = Callable[[str], Place]


def by_name(path: str) -> Place:
    return [(False, path)]


def own_work_first(path: str) -> Place:
    """A file's place among others, as the agent's globs and searches come to it."""
    *folders, name = path.split("/")
    return [*((is_others_work(folder.encode(errors="replace")), folder) for folder in folders), (False, name)]
