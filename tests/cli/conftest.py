from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mcp_spaces import places
from tests.cli.commands import MAIN, ROOT, Ended, environment
from tests.security.lines import ENVELOPE

PATIENCE_S = 60


@dataclass(frozen=True)
class Daemon:
    """The real one, with the Docker engine behind it."""

    state_dir: Path
    url: str

    def call(self, operation: str, /, **given: Any) -> Any:
        """As the operator, without a command: what a test starts from costs no process. The answer's content."""
        arguments = {"operation": operation, "input": given}
        params = {"name": "operation_call", "arguments": arguments, "_meta": ENVELOPE}
        with socket.socket(socket.AF_UNIX) as line, line.makefile("rb") as answers:
            line.settimeout(PATIENCE_S)
            line.connect(places.operator_socket(str(self.state_dir)))
            line.sendall(
                json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}).encode() + b"\n"
            )
            result = json.loads(answers.readline())["result"]
        assert not result.get("isError"), result
        return result["structuredContent"]

    def run(self, *words: str, stdin: str = "", **env: str) -> Ended:
        done = subprocess.run(
            [*MAIN, *words],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            env=environment(self.state_dir, env),
            cwd=ROOT,
        )
        return Ended(done.returncode, done.stdout, done.stderr)


@pytest.fixture(scope="session")
def daemon() -> Iterator[Daemon]:
    # pytest's own folders have names too long for a socket
    with tempfile.TemporaryDirectory(prefix="mcps-") as folder:
        state_dir = Path(folder) / "state"
        ready, tell_ready = os.pipe()
        log = Path(folder) / "log"
        with log.open("wb") as written:
            process = subprocess.Popen(
                [sys.executable, "-m", "mcp_spaces", "serve", "--http-port", "0", "--ready-fd", str(tell_ready)],
                env=environment(state_dir, {"MCP_SPACES_SANDBOX_POOL_SIZE": "0"}),
                pass_fds=(tell_ready,),
                stderr=written,
                cwd=ROOT,
            )
        os.close(tell_ready)
        try:
            assert os.read(ready, 1) == b"1", log.read_text()
            url = re.search(r"http://\S+", log.read_text())
            assert url is not None
            yield Daemon(state_dir, url[0])
        finally:
            os.close(ready)
            process.terminate()
            process.wait(PATIENCE_S)
