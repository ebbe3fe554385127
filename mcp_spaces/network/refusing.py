"""How a refusal is told to whoever asked, and which of several errors is the one to tell."""

from __future__ import annotations

from collections.abc import Iterator

import anyio

from mcp_spaces.errors import SpacesError
from mcp_spaces.network import head as heads
from mcp_spaces.network.model import Refused
from mcp_spaces.sandbox.port import Connection

LINGER_S = 20.0
"""How long a client may take to read the end of an answer."""


def first_cause(error: BaseException) -> BaseException:
    """Of a group of errors the refusal, else the first. What is none of ours is raised on."""
    leaves = list(_leaves(error))
    for leaf in leaves:
        if not isinstance(leaf, Refused | SpacesError | EOFError):
            raise leaf
    return next((leaf for leaf in leaves if isinstance(leaf, Refused)), leaves[0])


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for one in error.exceptions:
            yield from _leaves(one)
    else:
        yield error


async def answer(connection: Connection, refused: Refused) -> None:
    """In the reason phrase too: of a refused CONNECT clients show nothing else."""
    rule = f" (rule: {refused.rule})" if refused.rule else ""
    body = f"mcp-spaces: {refused.words}{rule}\nreason: {refused.reason}\n"
    fields = [
        ("Content-Type", "text/plain; charset=utf-8"),
        ("Content-Length", str(len(body.encode()))),
        ("Connection", "close"),
        ("Cache-Control", "no-store"),
        ("X-Mcp-Spaces-Refused", str(refused.reason)),
    ]
    phrase = f"mcp-spaces: {refused.words}".encode("ascii", "replace").decode()
    await connection.send(heads.written(f"HTTP/1.1 {refused.status} {phrase}", fields) + body.encode())
    await finish(connection)


async def finish(connection: Connection) -> None:
    """So that the client reads everything before the connection goes."""
    await connection.finish()
    with anyio.move_on_after(LINGER_S):
        while await connection.receive():
            pass
