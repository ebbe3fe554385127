"""The calls that a channel can be. Commands are in `running.py`."""

from __future__ import annotations

import os

from mcp_spaces.sandbox.agent import processes, supervisor, wire
from mcp_spaces.sandbox.agent.files import Write, word_of
from mcp_spaces.sandbox.agent.paths import Refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence
    from typing import Optional

    from mcp_spaces.sandbox.agent.loop import Loop
    from mcp_spaces.sandbox.agent.paths import Workspace


class Call:
    """One channel. Subclasses answer frames; `ended` is called with the channel when its last frame was sent."""

    def __init__(self, loop: Loop, channel: int, ended: Callable[[int], None]) -> None:
        self.loop = loop
        self.channel = channel
        self.ended = ended
        self.closed = False

    def send(self, kind: int, payload: bytes = b"") -> None:
        self.loop.send(kind, self.channel, payload)

    def close(self, kind: int, payload: bytes = b"") -> None:
        if not self.closed:
            self.closed = True
            self.send(kind, payload)
            self.ended(self.channel)

    def fail(self, error: Exception) -> None:
        self.close(wire.FAILURE, wire.pack([word_of(error)]))

    def on_content(self, content: bytes) -> None: ...

    def on_end(self) -> None: ...

    def on_kill(self) -> None: ...

    def on_resize(self, rows: int, columns: int) -> None: ...

    def on_room(self, size: int) -> None: ...


class Reading(Call):
    """A file whose content goes out in slices."""

    stopped = False

    def run(self, slices: Generator[None, None, Sequence[bytes]]) -> None:
        self.loop.run_slices(self._steps(slices))

    def _steps(self, slices: Generator[None, None, Sequence[bytes]]) -> Iterator[None]:
        try:
            while not self.stopped:
                next(slices)
                yield
            slices.close()
            raise Refused("stopped")
        except StopIteration as done:
            self.close(wire.RESULT, wire.pack(done.value))
        except (OSError, Refused, MemoryError) as error:
            self.fail(error)

    def on_kill(self) -> None:
        self.stopped = True


class Writing(Call):
    """A file that arrives in pieces."""

    def begin(self, workspace: Workspace, fields: Sequence[bytes], nonce: bytes) -> None:
        self.file: Optional[Write] = None
        try:
            self.file = Write(workspace, fields, nonce)
        except (OSError, Refused) as error:
            self.fail(error)

    def on_content(self, content: bytes) -> None:
        if self.file is None:
            return
        try:
            self.file.add(content)
        except OSError as error:
            self._stop(error)
        else:
            self.send(wire.GRANT, wire.pack([wire.whole(len(content))]))

    def on_end(self) -> None:
        if self.file is not None:
            self.loop.run_slices(self._finish(self.file))

    def _finish(self, file: Write) -> Iterator[None]:
        slices = file.finish()
        try:
            # Taken back, maybe before its first step: then its folders are closed.
            while self.file is not None:
                next(slices)
                yield
            slices.close()
        except StopIteration as done:
            file.close()
            self.close(wire.RESULT, wire.pack(done.value))
        except (OSError, Refused) as error:
            self._stop(error)

    def _stop(self, error: Exception) -> None:
        file, self.file = self.file, None
        if file is not None:
            file.close()
            self.fail(error)

    def on_kill(self) -> None:
        self._stop(Refused("stopped"))


class Forked(Call):
    """An operation on a tree, in a process of its own. It writes packed reports into a pipe; its last byte string
    begins with the kind of the closing frame."""

    def begin(self, operation: Callable[[Callable[[bytes], None]], Sequence[bytes]], root_fd: int) -> None:
        self.pid = -1
        self.received = bytearray()
        try:
            self.fd, theirs = os.pipe()
            try:
                self.pid = os.fork()
            except OSError:
                os.close(self.fd)
                os.close(theirs)
                raise
        except OSError as error:
            self.fail(error)
            return
        if self.pid == 0:
            try:
                supervisor.leave_the_agent({theirs, root_fd})
                _work(theirs, operation)
            finally:
                os._exit(0)
        os.close(theirs)
        os.set_blocking(self.fd, False)
        self.loop.watch_source(self.fd, self._on_report)

    def _on_report(self) -> None:
        try:
            piece = os.read(self.fd, wire.CHUNK)
        except BlockingIOError:
            return
        if piece:
            self.received += piece
            while len(self.received) >= wire.HEADER.size:
                size, kind, _ = wire.HEADER.unpack_from(self.received)
                end = wire.HEADER.size + size
                if len(self.received) < end:
                    return
                payload = bytes(self.received[wire.HEADER.size : end])
                del self.received[:end]
                if kind == wire.REPLY:
                    self.send(kind, payload)
                else:
                    self._finish(kind, payload)
                    return
            return
        self._finish(wire.FAILURE, wire.pack([b"stopped"]))

    def _finish(self, kind: int, payload: bytes) -> None:
        if self.fd >= 0:
            self.loop.forget_source(self.fd)
            os.close(self.fd)
            self.fd = -1
            self.close(kind, payload)

    def on_kill(self) -> None:
        if self.pid > 0:
            processes.kill(self.pid)
        self._finish(wire.FAILURE, wire.pack([b"stopped"]))


def _work(fd: int, operation: Callable[[Callable[[bytes], None]], Sequence[bytes]]) -> None:
    gathered: list[bytes] = []
    size = 0

    def flush() -> None:
        nonlocal size
        if gathered:
            _write_all(fd, wire.frame(wire.REPLY, 0, b"".join(gathered)))
            gathered.clear()
            size = 0

    def report(entry: bytes) -> None:
        nonlocal size
        # One field per entry: the daemon takes a REPLY apart frame by frame.
        gathered.append(wire.LENGTH.pack(len(entry)) + entry)
        size += len(entry) + 4
        if size > 32 * 1024:
            flush()

    try:
        fields = operation(report)
    except (OSError, Refused, MemoryError, RecursionError) as error:
        flush()
        _write_all(fd, wire.frame(wire.FAILURE, 0, wire.pack([word_of(error)])))
        return
    flush()
    _write_all(fd, wire.frame(wire.RESULT, 0, wire.pack(fields)))


def _write_all(fd: int, content: bytes) -> None:
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(fd, rest) :]
