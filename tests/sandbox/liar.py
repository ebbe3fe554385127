"""A sandbox whose agent is the test: it says what no agent of ours would."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from mcp_spaces.sandbox.agent import wire
from mcp_spaces.sandbox.stream.agent_stream import AgentStream
from mcp_spaces.sandbox.stream.attached import AttachedSandbox

LOG = logging.getLogger("tests.sandbox.liar")
HELLO = wire.frame(wire.HELLO, 0, wire.pack([wire.VERSION, wire.whole(1)]))


@dataclass
class Liar:
    """`sandbox` is the daemon's end, `agent` ours."""

    sandbox: AttachedSandbox
    agent: socket.socket
    freed: int = 0

    async def receive(self) -> bytes:
        return await asyncio.get_running_loop().sock_recv(self.agent, 1 << 20)

    async def say(self, *frames: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self.agent, b"".join(frames))


@asynccontextmanager
async def liar(hello: bytes = HELLO) -> AsyncIterator[Liar]:
    ours, theirs = socket.socketpair()
    for each in (ours, theirs):
        each.setblocking(False)
    _, stream = await asyncio.get_running_loop().create_unix_connection(
        lambda: AgentStream(log=LOG, multiplexed=False), sock=ours
    )

    async def free() -> None:
        agent.freed += 1
        theirs.close()

    sandbox = AttachedSandbox(container_id="liar", image_id="sha256:lies", stream=stream, free=free)
    agent = Liar(sandbox, theirs)
    try:
        await agent.say(hello)
        await stream.hello
        yield agent
    finally:
        await sandbox.stop()
