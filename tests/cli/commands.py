"""The real command line as a process of its own, against a daemon that the test holds open."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio

from mcp_spaces.core.call_operation import CALL
from mcp_spaces.core.operation import AnyOperation
from tests.server.doors import House, open_house
from tests.server.small_app import OPERATIONS

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 30
MAIN = [sys.executable, "-m", "mcp_spaces"]


@dataclass(frozen=True)
class Ended:
    code: int
    stdout: str
    stderr: str

    def json(self) -> Any:
        return json.loads(self.stdout)


def environment(state_dir: Path | str, more: Mapping[str, str] | None = None) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MCP_SPACES_")}
    return {**kept, "MCP_SPACES_STATE_DIR": str(state_dir), **(more or {})}


async def run(*words: str, state_dir: Path | str, stdin: bytes = b"", env: Mapping[str, str] | None = None) -> Ended:
    with anyio.fail_after(PATIENCE_S):
        done = await anyio.run_process(
            [*MAIN, *words],
            input=stdin,
            check=False,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment(state_dir, env),
            cwd=ROOT,
        )
    return Ended(done.returncode, done.stdout.decode(), done.stderr.decode())


async def on_a_terminal(*words: str, state_dir: Path | str, types: Sequence[str] = ()) -> str:
    """What a terminal showed of a command, each of whose questions was answered in turn."""
    process, terminal = pty.fork()
    if process == 0:
        os.chdir(ROOT)
        os.execvpe(sys.executable, [*MAIN, *words], environment(state_dir, {"TERM": "xterm"}))
    seen, answers = b"", iter(types)
    try:
        with anyio.fail_after(PATIENCE_S):
            while True:
                await anyio.wait_readable(terminal)
                try:
                    chunk = os.read(terminal, 65_536)
                except OSError:  # Linux's way of saying that nobody holds the other side
                    return seen.decode()
                seen += chunk
                if seen.endswith(b": ") and (answer := next(answers, None)) is not None:
                    os.write(terminal, f"{answer}\n".encode())
    finally:
        os.close(terminal)
        os.waitpid(process, 0)  # noqa: ASYNC222 - it has ended: nobody holds its terminal any more


@asynccontextmanager
async def small_house(*more: AnyOperation, **settings: Any) -> AsyncIterator[House]:
    """A daemon with the small operations, reached by `operation call`."""
    async with open_house(operations=(*OPERATIONS, CALL, *more), **settings) as house:
        yield house
