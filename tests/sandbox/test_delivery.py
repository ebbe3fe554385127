"""The agent starts in the Python that is there, whether its byte code is ours or not."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from mcp_spaces.sandbox.agent import wire
from mcp_spaces.sandbox.docker.delivery import COMMAND, bundle


@pytest.mark.parametrize("magic", [importlib.util.MAGIC_NUMBER, b"\0\0\0\0"], ids=["compiled", "from source"])
def test_the_agent_says_hello(magic: bytes, tmp_path: Path) -> None:
    sent = bundle(str(tmp_path))
    assert sent[4:8] == importlib.util.MAGIC_NUMBER
    with subprocess.Popen([sys.executable, *COMMAND[1:]], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as agent:
        assert agent.stdin is not None and agent.stdout is not None
        agent.stdin.write(sent[:4] + magic + sent[8:])
        agent.stdin.flush()
        length, kind, channel = wire.HEADER.unpack(agent.stdout.read(wire.HEADER.size))
        assert (kind, channel) == (wire.HELLO, 0)
        assert wire.unpack(agent.stdout.read(length))[0] == wire.VERSION
        agent.stdin.close()
        assert agent.wait(timeout=10) == 0


def test_what_lies_in_the_workspace_is_no_part_of_the_agent(tmp_path: Path) -> None:
    """It starts where a former sandbox of the runtime could write, and nothing there is imported."""
    for name in sys.stdlib_module_names:
        (tmp_path / f"{name}.py").write_text("raise SystemExit('imported')\n")
    sent = bundle(str(tmp_path))
    # From source, so that it compiles as well.
    sent = sent[:4] + b"\0\0\0\0" + sent[8:]
    with subprocess.Popen(
        [sys.executable, *COMMAND[1:]], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path), "PYTHONSTARTUP": str(tmp_path / "this.py")},
    ) as agent:  # fmt: skip
        told, _ = agent.communicate(sent, timeout=30)
    assert wire.HEADER.unpack(told[: wire.HEADER.size])[1:] == (wire.HELLO, 0)


@pytest.mark.parametrize("arrived", [0, 3, 1000, -1])
def test_an_agent_of_which_only_a_part_arrived_ends_with_its_input(arrived: int) -> None:
    """Its daemon was killed in the middle of it; what waits for the rest would wait for ever."""
    with subprocess.Popen([sys.executable, *COMMAND[1:]], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as agent:
        try:
            told, _ = agent.communicate(bundle()[:arrived], timeout=30)
        finally:
            agent.kill()
    assert (agent.returncode, told) == (0, b"")
