"""The agent starts in the Python that is there, whether its byte code is ours or not."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from mcp_spaces.sandbox.agent import wire
from mcp_spaces.sandbox.docker.delivery import COMMAND, bundle


def bundle_for(root: Path, *, compiled: bool) -> bytes:
    """Of the two forms in which the agent comes, only the one that is to be taken can be."""
    rest, parts = bundle(str(root)), []
    while rest:
        length = int.from_bytes(rest[:4], "big")
        parts.append(rest[4 : 4 + length])
        rest = rest[4 + length :]
    magic, code, source, folder = parts
    assert magic == importlib.util.MAGIC_NUMBER
    parts = [magic, code, b"(", folder] if compiled else [b"\0\0\0\0", b"(", source, folder]
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


@pytest.mark.parametrize("compiled", [True, False], ids=["compiled", "from source"])
def test_the_agent_says_hello(compiled: bool, tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, *COMMAND[1:]], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as agent:
        assert agent.stdin is not None and agent.stdout is not None
        agent.stdin.write(bundle_for(tmp_path, compiled=compiled))
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
    with subprocess.Popen(
        [sys.executable, *COMMAND[1:]], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path), "PYTHONSTARTUP": str(tmp_path / "this.py")},
    ) as agent:  # fmt: skip
        # From source, which imports what compiles it as well.
        told, _ = agent.communicate(bundle_for(tmp_path, compiled=False), timeout=30)
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
