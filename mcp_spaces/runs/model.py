"""Run records and artifacts, as they are told."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


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
