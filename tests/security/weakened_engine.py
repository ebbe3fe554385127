"""An engine that does not do as it is told."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path


class WeakenedEngine:
    """Docker, with somebody in between who changes one word of every create call (the length stays). `claimed`: and
    one of every answer, so that the engine says that it did as it was told."""

    def __init__(
        self, path: Path, word: bytes, other: bytes, *, claimed: tuple[bytes, bytes] = (b"nothing", b"nothing")
    ) -> None:
        assert len(word) == len(other) and len(claimed[0]) == len(claimed[1])
        self.path, self._word, self._other, self._claimed = path, word, other, claimed
        self.changed = 0
        self._serving: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> WeakenedEngine:
        self._server = await asyncio.start_unix_server(self._serve, self.path)
        return self

    async def __aexit__(self, *_: object) -> None:
        """The driver has left by now; the engine may hold on to a stream whose container is gone."""
        self._server.close()
        for task in self._serving:
            task.cancel()
        if self._serving:
            await asyncio.wait(self._serving)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)
        upstream_reader, upstream_writer = await asyncio.open_unix_connection("/var/run/docker.sock")
        try:
            await asyncio.gather(
                self._copy(reader, upstream_writer, weaken=True), self._copy(upstream_reader, writer, weaken=False)
            )
        except asyncio.CancelledError:
            # By our own exit: a server's task that ends cancelled is reported as a fault.
            pass
        finally:
            for each in (writer, upstream_writer):
                each.transport.abort()
                with suppress(OSError):
                    await each.wait_closed()

    async def _copy(self, source: asyncio.StreamReader, target: asyncio.StreamWriter, *, weaken: bool) -> None:
        try:
            while content := await source.read(1 << 20):
                if weaken and self._word in content:
                    self.changed += 1
                    content = content.replace(self._word, self._other)
                elif not weaken:
                    content = content.replace(*self._claimed)
                target.write(content)
                await target.drain()
            # The other way may go on: a command's input ends before its output does.
            target.write_eof()
        except OSError:
            source.feed_eof()
            target.close()


WEAKER = {
    "the host's network": (b'"NetworkMode": "none"', b'"NetworkMode": "host"'),
    "a writable root": (b'"ReadonlyRootfs": true', b'"ReadonlyRootfs":false'),
    "no new privileges left out": (b'"no-new-privileges", ', b"                     "),
    "the user root": (b'"User": "10001:10001"', b'"User": "0:0"        '),
    "the host's processes": (b'"IpcMode": "private"', b'"PidMode": "host"   '),
    "capabilities": (b'"CapDrop": ["ALL"]', b'"CapAdd":  ["ALL"]'),
    "no limit of memory": (b'"MemorySwap": 268435456', b'"MemorySwap":        -1'),
    "a kept log": (b'"Type": "none"', b'"Type": ""    '),
    "a disk with setuid programs and devices": (b'"nosuid,nodev,noatime"', b'"relatime,suid,dev,rw"'),
}
