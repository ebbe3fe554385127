"""What a driver has left on this machine, asked of Docker and of the kernel beside it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from mcp_spaces.sandbox.docker.container import INSTANCE_LABEL


def containers(instance_id: str, *filters: str) -> list[str]:
    return listed("ps", "-aq", "--no-trunc", filters=(f"label={INSTANCE_LABEL}={instance_id}", *filters))


def volumes(instance_id: str) -> list[str]:
    return listed("volume", "ls", "-q", filters=(f"label={INSTANCE_LABEL}={instance_id}",))


def listed(*words: str, filters: Sequence[str]) -> list[str]:
    """What Docker lists of those to which every filter applies."""
    command = ["docker", *words, *(f"--filter={one}" for one in filters)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()


def inspected(container_id: str) -> dict[str, object]:
    found = subprocess.run(["docker", "inspect", container_id], capture_output=True, text=True, check=True).stdout
    answer: dict[str, object] = json.loads(found)[0]
    return answer


def loop_devices(folder: Path) -> list[str]:
    """Files below the folder that the kernel holds as block devices."""
    found = []
    for backing in Path("/sys/block").glob("loop*/loop/backing_file"):
        with suppress(OSError):
            found.append(backing.read_text().strip())
    return [file for file in found if str(folder) in file]
