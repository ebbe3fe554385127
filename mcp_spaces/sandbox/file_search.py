"""Find files in a sandbox's workspace: by folder, by pattern, by content."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Annotated, TypeVar

from pydantic import AfterValidator, BaseModel, Field

from mcp_spaces.core.answer import ANSWER_CHARACTERS, Answer
from mcp_spaces.core.context import Context
from mcp_spaces.core.effect import Effect
from mcp_spaces.core.facts import Access, FileFacts
from mcp_spaces.core.operation import Operation
from mcp_spaces.core.place import InRuntime
from mcp_spaces.core.policy import Deny, decide
from mcp_spaces.sandbox.cutting import cost, start_within
from mcp_spaces.sandbox.path_grammar import FilePath, FolderPath, encodable
from mcp_spaces.sandbox.port import FileKind, FileStat
from mcp_spaces.sandbox.service import SandboxService

PATTERN_LENGTH = 1000
ENTRIES = 1000
MATCHES = 500
LINE_SHOWN = 300
"""Characters of a matching line."""
ENTRY_COST = 40
"""Characters of names and marks around one entry."""

_CHOICE = re.compile(r"\{[^{}]*,[^{}]*\}")


def _without_choice(glob: str) -> str:
    if _CHOICE.search(glob):
        raise ValueError("{a,b} is not understood: make one call for each, or use sandbox_shell with rg -g")
    return glob


Pattern = Annotated[str, Field(min_length=1, max_length=PATTERN_LENGTH), AfterValidator(encodable)]
E = TypeVar("E", bound=BaseModel)


class ListFilesInput(InRuntime):
    path: FolderPath = "."
    depth: int = Field(default=1, ge=1, le=20)
    limit: int = Field(default=200, ge=1, le=ENTRIES)


class Entry(Answer):
    path: str
    kind: FileKind
    size_bytes: int | None = None
    """Of files."""
    executable: bool | None = None


class ListFilesOutput(Answer):
    entries: tuple[Entry, ...]
    truncated: bool | None = None


class GlobInput(InRuntime):
    pattern: Annotated[FilePath, AfterValidator(_without_choice)]
    """Such as src/**/*.py"""
    limit: int = Field(default=200, ge=1, le=ENTRIES)


class GlobOutput(Answer):
    paths: tuple[str, ...]
    truncated: bool | None = None


class SearchInput(InRuntime):
    pattern: Pattern
    """Python regular expression."""
    path: FolderPath = "."
    glob: Annotated[Pattern, AfterValidator(_without_choice)] | None = None
    """Only files like *.py, or src/**/*.py."""
    limit: int = Field(default=100, ge=1, le=MATCHES)


class Match(Answer):
    path: str
    line: int
    text: str


class SearchOutput(Answer):
    matches: tuple[Match, ...]
    truncated: bool | None = None
    withheld: int | None = None
    """Matches in files that policy does not let you read."""
    files_too_large: int | None = None
    """Texts over 10 MiB, which were not searched."""


async def list_files(context: Context, given: ListFilesInput) -> ListFilesOutput:
    """What is below a folder, by path; links are not followed. Raises NotFound, WrongState."""
    sandbox = context.use(SandboxService).live(context.runtime.id)
    listing = await sandbox.list_files(given.path, depth=given.depth, limit=given.limit)
    entries = [_entry(stat) for stat in listing.entries]
    kept = _affordable(entries, [cost(entry.path) + ENTRY_COST for entry in entries])
    return ListFilesOutput(entries=kept, truncated=listing.truncated or len(kept) < len(entries) or None)


async def glob(context: Context, given: GlobInput) -> GlobOutput:
    """In the order of paths, what others made last. Nothing there is no error. Raises InvalidInput."""
    sandbox = context.use(SandboxService).live(context.runtime.id)
    listing = await sandbox.glob(given.pattern, limit=given.limit)
    paths = [stat.path for stat in listing.entries]
    count = _count_affordable([cost(path) + 3 for path in paths])
    return GlobOutput(paths=tuple(paths[:count]), truncated=listing.truncated or count < len(paths) or None)


async def search(context: Context, given: SearchInput) -> SearchOutput:
    """Raises InvalidInput (the expression), TimedOut, NotFound."""
    sandbox = context.use(SandboxService).live(context.runtime.id)
    # As rg -g has it: a name alone is one at any depth.
    anywhere = f"**/{given.glob}" if given.glob and "/" not in given.glob else given.glob
    found = await sandbox.search(given.pattern, path=given.path, glob=anywhere, limit=given.limit)
    readable = {path: _may_read(context, path) for path in {match.path for match in found.matches}}
    matches = [
        Match(path=match.path, line=match.line, text=start_within(match.text, LINE_SHOWN))
        for match in found.matches
        if readable[match.path]
    ]
    kept = _affordable(matches, [cost(match.path) + cost(match.text) + ENTRY_COST for match in matches])
    return SearchOutput(
        matches=kept,
        truncated=found.truncated or len(kept) < len(matches) or None,
        withheld=len(found.matches) - len(matches) or None,
        files_too_large=found.too_large or None,
    )


def _may_read(context: Context, path: str) -> bool:
    """A search shows content, so each file counts as read."""
    facts = FileFacts(path, Access.READ)
    decision = decide(context.policy, operation_id=SEARCH.id, effect=SEARCH.effect, facts=facts)
    return not isinstance(decision, Deny)


def _entry(stat: FileStat) -> Entry:
    is_file = stat.kind is FileKind.FILE
    return Entry(
        path=stat.path,
        kind=stat.kind,
        size_bytes=stat.size_bytes if is_file else None,
        executable=True if is_file and stat.executable else None,
    )


def _affordable(entries: Sequence[E], costs: Iterable[int]) -> tuple[E, ...]:
    return tuple(entries[: _count_affordable(costs)])


def _count_affordable(costs: Iterable[int]) -> int:
    left, count = ANSWER_CHARACTERS, 0
    for one in costs:
        left -= one
        if left < 0:
            break
        count += 1
    return count


LIST_FILES = Operation(
    id="sandbox.list_files",
    summary="List a folder of a sandbox.",
    input=ListFilesInput,
    output=ListFilesOutput,
    effect=Effect.READS,
    facts=lambda given: FileFacts(given.path, Access.READ),
    handler=list_files,
    listed=False,
    idempotent=True,
    needs_running_space=True,
    example={"space": "default", "path": "src", "depth": 2},
)
GLOB = Operation(
    id="sandbox.glob",
    summary="Find files of a sandbox by path pattern.",
    input=GlobInput,
    output=GlobOutput,
    effect=Effect.READS,
    facts=lambda _: FileFacts(".", Access.READ),
    handler=glob,
    idempotent=True,
    needs_running_space=True,
    example={"space": "default", "pattern": "**/*.py"},
)
SEARCH = Operation(
    id="sandbox.search",
    summary="Search files of a sandbox by regular expression.",
    input=SearchInput,
    output=SearchOutput,
    effect=Effect.READS,
    facts=lambda given: FileFacts(given.path, Access.READ),
    handler=search,
    idempotent=True,
    needs_running_space=True,
    example={"space": "default", "pattern": "def \\w+", "glob": "**/*.py"},
)
