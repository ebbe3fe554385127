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
