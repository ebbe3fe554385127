"""What an operation does to the world. Policy verdicts and all four MCP hints follow from it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Effect(StrEnum):
    """The strongest thing that an operation may do."""

    OBSERVES = "observes"
    """Reads records and descriptions: spaces, runs, policy, context."""
    READS = "reads"
    """Reads the content of files, and of pages that are open."""
    CREATES = "creates"
    """Adds something and changes nothing that was there."""
    WRITES = "writes"
    """Changes or replaces content."""
    DELETES = "deletes"
    """Removes content or things for good."""
    EXECUTES = "executes"
    """Runs code in a runtime."""
    BROWSES = "browses"
    """Loads what is elsewhere, as a visitor who only reads."""
    INTERACTS = "interacts"
    """Acts on what is elsewhere: clicks, types, signs in."""
    STARTS = "starts"
    """Adds or starts a space or a runtime: scope and limits judge it, whatever a policy says about content."""
    ENDS = "ends"
    """Stops or removes a space, a runtime, a job or a run."""
    COMPOSES = "composes"
    """Only calls other operations, each of which is decided on its own."""
    GOVERNS = "governs"
    """Changes who may do what: mounts, policies, principals, keys, approvals."""


@dataclass(frozen=True, slots=True)
class Hints:
    """MCP's tool annotations. They are advice to clients; policy does not read them."""

    read_only: bool
    destructive: bool
    open_world: bool


HINTS: dict[Effect, Hints] = {
    Effect.OBSERVES: Hints(read_only=True, destructive=False, open_world=False),
    Effect.READS: Hints(read_only=True, destructive=False, open_world=False),
    Effect.CREATES: Hints(read_only=False, destructive=False, open_world=False),
    Effect.WRITES: Hints(read_only=False, destructive=True, open_world=False),
    Effect.DELETES: Hints(read_only=False, destructive=True, open_world=False),
    Effect.EXECUTES: Hints(read_only=False, destructive=True, open_world=False),
    Effect.BROWSES: Hints(read_only=False, destructive=False, open_world=True),
    Effect.INTERACTS: Hints(read_only=False, destructive=True, open_world=True),
    Effect.STARTS: Hints(read_only=False, destructive=False, open_world=False),
    Effect.ENDS: Hints(read_only=False, destructive=True, open_world=False),
    Effect.COMPOSES: Hints(read_only=False, destructive=True, open_world=False),
    Effect.GOVERNS: Hints(read_only=False, destructive=True, open_world=False),
}
