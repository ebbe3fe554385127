"""The example runs as it stands, as a newcomer runs it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from examples.demo import own_environment

ROOT = Path(__file__).parent.parent


def test_the_demo_knows_nothing_of_a_real_server(tmp_path: Path) -> None:
    real = {"PATH": "/bin", "MCP_SPACES_SERVER": "https://real.example/mcp", "MCP_SPACES_KEY": "msp_x"}
    assert own_environment(real, state=tmp_path) == {"PATH": "/bin", "MCP_SPACES_STATE_DIR": str(tmp_path)}


def test_the_demo_runs_to_its_end() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "examples.demo"],
        capture_output=True,
        text=True,
        timeout=110,
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert "claude mcp add" in done.stdout
