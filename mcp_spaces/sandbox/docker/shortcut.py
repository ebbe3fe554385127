"""A shorter way to an agent than Docker's attach stream, which passes through dockerd and containerd's shim both ways.

A daemon that is root reaches the files of a container through /proc. So the agent, before it runs any command, listens
on a socket in the container's own /tmp for one visitor; the kernel says whose socket it is. Nothing is mounted, nothing
is listened on afterwards, and the attach stream stays: its end is the end of the agent. Where a container's files
cannot be reached (a daemon that is not root, an engine on another machine) everything goes on as it began.
"""

from __future__ import annotations

import os
import secrets
import socket
import struct
from pathlib import Path

from mcp_spaces.sandbox.stream.attached import AttachedSandbox

FOLDER = "/tmp"  # noqa: S108 - the container's, which is empty and its own


async def take(sandbox: AttachedSandbox, pid: int) -> bool:
    """Whether it was taken; `pid` is the agent's, as the engine sees it.

    Before the first command: later, somebody else could come by. Raises RuntimeUnavailable.
    """
    root = Path(f"/proc/{pid}/root")
    if not os.access(f"{root}{FOLDER}", os.X_OK):
        return False
    door = f"{FOLDER}/.{secrets.token_hex(16)}"
    await sandbox.open_door(door)
    connection = visit(f"{root}{door}", pid)
    if connection is None:
        await sandbox.shut_door()
        return False
    await sandbox.continue_over(connection)
    return True


def visit(path: str, pid: int) -> socket.socket | None:
    """A connection to the socket at `path`, when exactly that process listens there."""
    connection = socket.socket(socket.AF_UNIX)
    connection.setblocking(False)
    try:
        connection.connect(path)
        listens, _, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        if listens == pid:
            return connection
    except OSError:
        # Another machine's process, or none: there is no such file here.
        pass
    connection.close()
    return None
