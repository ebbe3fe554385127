"""A real daemon with a state directory of its own, started as clients start it: through the shim."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import docker
import psutil

from benchmarks.clients import RawClient
from mcp_spaces import places

PROGRAM = Path(sys.executable).with_name("mcp-spaces")
STDIO = (str(PROGRAM), "stdio")
STOP_S = 60.0
WARM_S = 30.0
POOL_SETTLES_S = 0.5
"""From a warm container's start until it was proven and waits in the pool."""


@dataclass(frozen=True, slots=True)
class Daemon:
    """`pid` is the daemon's own, not the shim's."""

    state: Path
    environment: dict[str, str]
    pid: int

    def client(self) -> RawClient:
        """A raw client over stdio, through a shim of its own, initialized."""
        client = RawClient.spawn(STDIO, self.environment)
        client.initialize()
        return client

    def operator(self) -> RawClient:
        client = RawClient.connect(Path(places.operator_socket(str(self.state))))
        client.initialize()
        return client

    @property
    def memory_mb(self) -> float:
        return float(psutil.Process(self.pid).memory_info().rss) / 1e6

    def processor_s(self) -> float:
        """Seconds of processor time that the daemon has used."""
        used = psutil.Process(self.pid).cpu_times()
        return float(used.user + used.system)

    def wait_until_warm(self, *, size: int = 1) -> None:
        """Until the pool is full and nothing more is being started."""
        engine = docker.from_env()
        deadline = time.monotonic() + WARM_S
        # A launch leaves behind what still has its name from the pool for a moment.
        time.sleep(POOL_SETTLES_S)
        while time.monotonic() < deadline:
            names = [one.name or "" for one in engine.containers.list(ignore_removed=True)]
            if sum("-pool-" in name for name in names if self._owns(name)) >= size:
                time.sleep(POOL_SETTLES_S)
                return
            time.sleep(0.05)
        raise TimeoutError("the pool was not filled")

    def _owns(self, name: str) -> bool:
        import sqlite3

        with sqlite3.connect(f"file:{self.state / 'state.db'}?mode=ro", uri=True) as database:
            (instance,) = database.execute("SELECT value FROM settings WHERE name = 'instance_id'").fetchone()
        return f"-{instance}-" in name


@contextmanager
def state_directory() -> Iterator[Path]:
    state = Path(tempfile.mkdtemp(prefix="mcp-spaces-bench-"))
    try:
        yield state
    finally:
        shutil.rmtree(state, ignore_errors=True)


@contextmanager
def running(
    state: Path | None = None, *, pool_size: int = 1, settings: Mapping[str, str] | None = None
) -> Iterator[Daemon]:
    """A daemon for as long as the block lasts. It is stopped by SIGTERM, so that it frees its containers.

    `settings` are further environment variables.
    """
    if state is None:
        with state_directory() as fresh, running(fresh, pool_size=pool_size, settings=settings) as daemon:
            yield daemon
        return
    environment = {
        **os.environ,
        places.STATE_DIRECTORY_VARIABLE: str(state),
        "MCP_SPACES_SANDBOX_POOL_SIZE": str(pool_size),
        **(settings or {}),
    }
    with RawClient.spawn(STDIO, environment) as first:
        first.initialize()
    pid = int(Path(places.daemon_lock(str(state))).read_text())
    try:
        yield Daemon(state, environment, pid)
    finally:
        process = psutil.Process(pid)
        process.terminate()
        process.wait(STOP_S)


def ran(command: Sequence[str]) -> None:
    """A command to its end; what it prints is dropped. Raises CalledProcessError."""
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
