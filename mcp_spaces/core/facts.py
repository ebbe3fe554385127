"""What policy may look at: typed facts about one call, never rendered text."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Access(StrEnum):
    """What a call does with a file."""

    READ = "read"
    WRITE = "write"
    DELETE = "delete"


@dataclass(frozen=True, slots=True)
class NoFacts:
    """The effect alone decides."""


@dataclass(frozen=True, slots=True)
class FileFacts:
    """A file inside a runtime's workspace. `size_bytes` is None where it is not known before the call."""

    path: str
    access: Access
    size_bytes: int | None = None
    recursive: bool = False
    """With everything below it."""


@dataclass(frozen=True, slots=True)
class ShellFacts:
    """A command in shell syntax."""

    command: str


Facts = NoFacts | FileFacts | ShellFacts
