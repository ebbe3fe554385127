"""What other rooms may do with runs: leave files with them."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from mcp_spaces.runs.model import Artifact

ARTIFACT_BYTES_MAX = 256 << 20
"""One artifact. What may be longer has to be cut by whoever writes it."""


class Artifacts(Protocol):
    """The files that runs produced. They belong to the run's space and go with it."""

    def spool(self) -> Path:
        """A fresh path for a temporary file, on the disk where artifacts are kept. Nothing is there yet: create it
        with O_EXCL and mode 0600. Whoever asked removes the file, unless `keep` took it; what a killed daemon
        leaves is removed when the next one starts."""

    async def keep(self, *, run_id: str, space_id: str, name: str, content_type: str, path: Path) -> Artifact:
        """Take over the finished file at `path`: on return it is durable, recorded, and gone from `path`.

        All or nothing, also under a kill. `name` is shown to people; every character that is not printable is
        replaced and it is cut at 200. Where the space's artifacts together are above their limit, its oldest ones go.
        Raises QuotaExceeded above ARTIFACT_BYTES_MAX (the file stays), WrongState when `path` is not a regular file
        with one name, DiskFull.
        """
