"""Run records, events and artifacts, as they are told."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, StringConstraints

from mcp_spaces.core.answer import Answer
from mcp_spaces.core.spelling import Spelled
from mcp_spaces.storage.model import iso

NEWEST = 1 << 62
"""A cursor behind every row."""
RowCursor = Annotated[
    str, StringConstraints(pattern="^[0-9]{1,18}$"), Spelled("the next_cursor of the answer before this one")
]


class Artifact(BaseModel):
    """A file that a run produced. `space_id` is empty for a run outside of any space."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    run_id: str
    space_id: str
    name: str
    content_type: str
    size_bytes: int
    sha256: str
    created_at: float


class ArtifactView(Answer):
    id: str
    name: str
    content_type: str
    size_bytes: int
    sha256: str
    created_at: str

    @classmethod
    def of(cls, artifact: Artifact) -> ArtifactView:
        return cls(
            id=artifact.id,
            name=artifact.name,
            content_type=artifact.content_type,
            size_bytes=artifact.size_bytes,
            sha256=artifact.sha256,
            created_at=iso(artifact.created_at),
        )


class RunLine(Answer):
    """One line of a list."""

    id: str
    operation: str
    about: str | None = None
    """In a list: the beginning of the command, pattern, path, URL or name that it was called with."""
    state: str
    error_code: str | None = None
    parent: str | None = None
    principal: str | None = None
    """Left out in an agent's list where it is the agent itself."""
    principal_name: str | None = None
    """For operators: others know their own."""
    space: str | None = None
    space_name: str | None = None
    runtime: str | None = None
    started_at: str
    duration_ms: float | None = None


class EventView(Answer):
    """`cursor` is where to go on after it."""

    cursor: int
    at: str
    type: str
    body: object


class RunView(RunLine):
    """One run. `input` and `outcome` are redacted, and long texts in them are kept as size and hash."""

    decision: object = None
    input: object = None
    outcome: object = None
    children: int = 0
    events: tuple[EventView, ...] = ()
    next_events: int | None = None
    """Pass it as `events_after` to go on."""
    artifacts: tuple[ArtifactView, ...] = ()
