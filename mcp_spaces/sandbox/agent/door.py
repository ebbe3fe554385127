"""A second way in to the agent: a socket in the container's /tmp, open for one visitor, who is the daemon.

Only before the first command is there nobody else who could come.
"""

from __future__ import annotations

import _socket
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Optional

    from mcp_spaces.sandbox.agent.loop import Loop


class Door:
    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self.path = b""
        self.listening: Optional[Any] = None

    def open(self, path: bytes) -> None:
        """Raises OSError."""
        self.shut()
        listening: Any = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
        try:
            listening.bind(path)
            listening.listen(1)
        except BaseException:
            listening.close()
            raise
        listening.setblocking(False)
        self.path, self.listening = path, listening
        self.loop.watch(listening.fileno(), self._on_visitor)

    def shut(self) -> None:
        """Idempotent."""
        if self.listening is not None:
            self.loop.forget(self.listening.fileno())
            self.listening.close()
            self.listening = None
            os.unlink(self.path)

    def _on_visitor(self) -> None:
        if self.listening is not None:
            fd, _ = self.listening._accept()
            self.shut()
            self.loop.move(fd)
