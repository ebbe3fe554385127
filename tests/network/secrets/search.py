"""A search of processes, files, records and Docker's own answers for the secrets that a sandbox used."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from mcp_spaces.core.redaction import encodings
from tests.folders import content_of, files_below
from tests.network.inside import Inside
from tests.network.secrets.mounted import PASSWORD, TOKEN
from tests.sandbox.leftovers import listed


async def nothing_holds_the_secrets(inside: Inside) -> None:
    """Every form of every secret, looked for wherever something of the sandbox or its runs is kept."""
    forms = {form.encode() for value in (TOKEN, PASSWORD, f"ann:{PASSWORD}") for form in encodings(value)}

    def found(where: str, content: bytes) -> list[str]:
        return [f"{where}: {form!r}" for form in forms if form in content]

    runtime = (await inside.world.govern("sandbox.list", space="net")).sandboxes[0].id
    container = listed("ps", "-q", "--no-trunc", filters=(f"label=mcp-spaces.runtime={runtime}",))
    assert len(container) == 1, container
    holders: list[str] = []
    holders += found("docker inspect", _said("docker", "inspect", container[0]))
    since = str(int(time.time()) - 120)
    holders += found("docker events", _said("docker", "events", "--since", since, "--until", str(int(time.time()))))
    processes = [int(pid) for pid in _said("docker", "top", container[0], "-eo", "pid").split()[1:]]
    read = 0
    for pid in processes:
        for where, content in (*_memory_of(pid), *_files_of(pid)):
            read += len(content)
            holders += found(where, content)
    assert os.geteuid() != 0 or read > 1 << 20
    for path in files_below(inside.world.folder):
        # The workspace's disk is a sparse file of gigabytes; what is on it was read from inside.
        if "sites" not in path.parts:
            holders += found(str(path), content_of(path, most_bytes=64 << 20))
    runs = (await inside.world.govern("run.list", space="net", limit=100)).runs
    for run in runs:
        told = await inside.world.govern("run.get", run=run.id)
        holders += found(f"run {run.id}", told.model_dump_json().encode())
    everything = json.dumps([body for _, body in await inside.log()])
    holders += found("network log", everything.encode())
    assert holders == []


def _said(*command: str) -> bytes:
    return subprocess.run(command, capture_output=True, check=True).stdout


def _memory_of(pid: int) -> Iterator[tuple[str, bytes]]:
    """Environment, arguments and every readable page of a process. A test that may not look is skipped, and says so."""
    try:
        for name in ("environ", "cmdline"):
            yield f"/proc/{pid}/{name}", Path(f"/proc/{pid}/{name}").read_bytes()
        maps = Path(f"/proc/{pid}/maps").read_text()
        with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
            for line in maps.splitlines():
                area, rights = line.split()[:2]
                begin, end = (int(part, 16) for part in area.split("-"))
                # What a process wrote itself; libraries and other mapped files are the image's.
                if not rights.startswith("rw") or end - begin > 256 << 20:
                    continue
                try:
                    memory.seek(begin)
                    yield f"/proc/{pid}/mem {area}", memory.read(end - begin)
                except (OSError, ValueError):
                    continue
    except PermissionError:
        pytest.skip("only root may read the memory of a sandbox's processes")
    except (FileNotFoundError, ProcessLookupError):
        return  # it ended meanwhile


def _files_of(pid: int) -> Iterator[tuple[str, bytes]]:
    """What it could have written, as the sandbox sees it."""
    for folder in ("workspace", "tmp", "dev/shm"):
        for path in files_below(Path(f"/proc/{pid}/root/{folder}")):
            with suppress(OSError):
                if path.is_file() and not path.is_symlink():
                    yield str(path), path.read_bytes()
