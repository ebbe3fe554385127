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
    """A command in shell syntax, where it would start, and what it would be given."""

    command: str
    secrets: tuple[SecretFacts, ...] = ()
    """Those that it would get as they are."""
    cwd: str = "."
    """Seen from the workspace."""
    variables: tuple[str, ...] = ()
    """The names of those that are set for it."""


class SecretUse(StrEnum):
    """What a secret is opened for. Only the last one shows it to the caller."""

    BROWSER_FILL = "browser_fill"
    TOTP_FILL = "totp_fill"
    """A one-time code; its seed is shown to nobody."""
    GATEWAY_INJECT = "gateway_inject"
    RAW_READ = "raw_read"


@dataclass(frozen=True, slots=True)
class SecretFacts:
    """An entry of the vault, and what for."""

    path: str
    use: SecretUse


class BrowserUse(StrEnum):
    """How far a call goes in a browser."""

    READ = "read"
    INTERACT = "interact"
    EVALUATE = "evaluate"
    """A script of the caller's own, in the page."""
    CONNECT = "connect"
    """A program of the caller's own, in control of the whole browser."""


@dataclass(frozen=True, slots=True)
class BrowserFacts:
    """What a call does in a browser."""

    use: BrowserUse


Facts = NoFacts | FileFacts | ShellFacts | SecretFacts | BrowserFacts
