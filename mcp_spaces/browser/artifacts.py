"""What a browser produces, left with the run that made it."""

from __future__ import annotations

import os

from mcp_spaces.core.context import Context
from mcp_spaces.runs.model import Artifact
from mcp_spaces.runs.port import Artifacts
from mcp_spaces.state.disk import translated


async def keep(context: Context, content: bytes, *, name: str, content_type: str) -> Artifact:
    """As an artifact of this call's run. Raises what `Artifacts.keep` does."""
    artifacts = context.use(Artifacts)
    path = artifacts.spool()
    try:
        with translated():
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
        return await artifacts.keep(
            run_id=context.run_id, space_id=context.space.id, name=name, content_type=content_type, path=path
        )
    finally:
        path.unlink(missing_ok=True)
