"""A run as one zip file: records and events as JSON, artifacts as they are. Every name inside is ours.

We only ever write archives; nothing here or elsewhere on the host opens one (threats S10, S11).
"""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from anyio.to_thread import run_sync
from pydantic import BaseModel

from mcp_spaces.errors import QuotaExceeded
from mcp_spaces.runs.artifacts import ArtifactStore
from mcp_spaces.runs.model import Artifact, EventView, RunView
from mcp_spaces.runs.port import ARTIFACT_BYTES_MAX
from mcp_spaces.state.disk import translated

RUNS_MAX = 1_000
EVENTS_MAX = 10_000
"""Of one run."""
_EPOCH = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class ExportedRun:
    view: RunView
    events: Sequence[EventView]
    artifacts: Sequence[Artifact]


async def write_zip(runs: Iterable[ExportedRun], *, artifacts: ArtifactStore, path: Path) -> list[str]:
    """The ids of `runs`: the first is the exported one, the others are below it. Creates `path`, 0600. Each run is
    asked for when those before it are written: all their events together may be more than fits into memory.

    Raises QuotaExceeded above ARTIFACT_BYTES_MAX, DiskFull, WrongState; the caller removes the file.
    """
    ids: list[str] = []
    kept: dict[str, object] = {}
    with translated():
        stream = os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb")
    with translated(), stream, zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for run in runs:
            ids.append(run.view.id)
            kept |= {one.id: one.model_dump(exclude={"space_id"}) for one in run.artifacts}
            folder = f"runs/{run.view.id}"
            await run_sync(_write_text, archive, f"{folder}/run.json", [run.view])
            await run_sync(_write_text, archive, f"{folder}/events.jsonl", run.events)
            for artifact in run.artifacts:
                await _copy(archive, f"{folder}/artifacts/{artifact.id}", artifact, artifacts)
        manifest = {"run": ids[0], "runs": ids, "artifacts": kept}
        await run_sync(archive.writestr, _entry("manifest.json"), json.dumps(manifest, indent=2))
        _check_size(archive)
    return ids


def _write_text(archive: zipfile.ZipFile, name: str, models: Sequence[BaseModel]) -> None:
    archive.writestr(_entry(name), "".join(model.model_dump_json(exclude_none=True) + "\n" for model in models))
    _check_size(archive)


async def _copy(archive: zipfile.ZipFile, name: str, artifact: Artifact, artifacts: ArtifactStore) -> None:
    with artifacts.open(artifact) as reader, archive.open(_entry(name), "w", force_zip64=True) as target:
        async for chunk in reader.chunks():
            await run_sync(target.write, chunk)
            _check_size(archive)


def _entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, date_time=_EPOCH)
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.external_attr = 0o600 << 16
    return entry


def _check_size(archive: zipfile.ZipFile) -> None:
    written = 0 if archive.fp is None else archive.fp.tell()
    if written > ARTIFACT_BYTES_MAX:
        raise QuotaExceeded(
            f"The export would be larger than {ARTIFACT_BYTES_MAX >> 20} MiB.",
            hint="Read its artifacts one by one: run_read_artifact.",
        )
