"""The calls that a channel can be: a running command, or a file operation."""

from __future__ import annotations

import os
import signal
from collections import deque

from mcp_spaces.sandbox.agent import processes, supervisor, wire
from mcp_spaces.sandbox.agent.files import Write, word_of
from mcp_spaces.sandbox.agent.paths import Refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence
    from typing import Optional

    from mcp_spaces.sandbox.agent.loop import Loop
    from mcp_spaces.sandbox.agent.paths import Workspace

DRAIN_BYTES = 1 << 20
"""What is still taken of the output after the program ended: more than any pipe holds, so never cut short; bounded,
since a descendant may go on writing for ever."""
QUIET_PASSES = 25
END_OF_INPUT = b"\x04"


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
        word = error.word.encode() if isinstance(error, Refused) else b"io"
        if isinstance(error, OSError):
            word = word_of(error)
        elif isinstance(error, MemoryError):
            word = b"no_memory"
        self.close(wire.FAILURE, wire.pack([word]))

    def on_content(self, content: bytes) -> None: ...

    def on_end(self) -> None: ...

    def on_kill(self) -> None: ...

    def on_resize(self, rows: int, columns: int) -> None: ...

    def on_room(self, size: int) -> None: ...


class Streams:
    """Our ends of a command's streams; with a terminal, one descriptor for all. Raises OSError when none is left."""

    def __init__(self, terminal: Optional[tuple[int, int]]) -> None:
        fds: list[int] = []
        try:
            if terminal is not None:
                fds += os.openpty()
                supervisor.size_terminal(fds[0], *terminal)
                self.stdin = self.stdout = fds[0]
                self.stderr = -1
                self.theirs = (fds[1], fds[1], fds[1])
            else:
                for _ in range(3):
                    fds += os.pipe()
                self.stdin, self.stdout, self.stderr = fds[1], fds[2], fds[4]
                self.theirs = (fds[0], fds[3], fds[5])
        except BaseException:
            for fd in fds:
                os.close(fd)
            raise
        for fd in {self.stdin, self.stdout, self.stderr} - {-1}:
            os.set_blocking(fd, False)

    def close(self, fds: Sequence[int]) -> None:
        for fd in set(fds) - {-1}:
            os.close(fd)


class Running(Call):
    """A command under its supervisor."""

    def __init__(
        self,
        loop: Loop,
        channel: int,
        ended: Callable[[int], None],
        *,
        worker: supervisor.Supervisor,
        streams: Streams,
        terminal: bool,
        out_of_memory: Callable[[], int],
        marker: bytes,
        release: Callable[[supervisor.Supervisor], None],
    ) -> None:
        super().__init__(loop, channel, ended)
        self.worker = worker
        self.stdin = streams.stdin
        self.terminal = terminal
        self.release_worker = release
        self.count_out_of_memory = out_of_memory
        self.out_of_memory_before = out_of_memory()
        self.marker = marker
        self.exit: Optional[tuple[int, int]] = None
        self.started = False
        self.reported = False
        self.left = False
        self.killing = False
        self.deaf = False
        self.quiet = 0
        self.open_outputs: dict[int, int] = {}
        self.drained = 0
        self.pending: deque[bytes] = deque()
        self.input_open = True
        self.input_ends = False
        self.writing = False
        loop.watch(worker.socket.fileno(), self._on_told)
        self._watch_output(streams.stdout, wire.STDOUT)
        if streams.stderr >= 0:
            self._watch_output(streams.stderr, wire.STDERR)

    # Output

    def _watch_output(self, fd: int, kind: int) -> None:
        self.open_outputs[fd] = kind
        self.loop.watch_source(fd, lambda: self._on_output(fd, kind))

    def _on_output(self, fd: int, kind: int) -> bool:
        """Pass on one chunk. False when there is none at the moment, or never will be."""
        try:
            chunk = os.read(fd, wire.CHUNK)
        except BlockingIOError:
            return False
        except OSError:
            # A terminal whose other side is closed.
            chunk = b""
        if not chunk:
            self.loop.forget_source(fd)
            del self.open_outputs[fd]
            if not (self.terminal and self.input_open):
                os.close(fd)
            return False
        if not self.reported:
            # It may have written before its supervisor could say that it runs.
            self._start()
            self.send(kind, chunk)
        return True

    def _drain(self) -> Iterator[None]:
        """What the program wrote before it ended, then its exit. Yields while the daemon catches up."""
        for fd, kind in list(self.open_outputs.items()):
            taken = 0
            while taken < DRAIN_BYTES and fd in self.open_outputs and self._on_output(fd, kind):
                taken += wire.CHUNK
                yield
        self._report()

    # Status

    def _on_told(self) -> None:
        try:
            told = self.worker.socket.recv(64 * supervisor.TOLD_BYTES)
        except BlockingIOError:
            return
        except OSError:
            told = b""
        if not told:
            self._let_go()
            return
        for at in range(0, len(told), supervisor.TOLD_BYTES):
            word, first = told[at : at + 1], wire.number([told[at + 1 : at + 9]], 0)
            if word == b"S":
                self._start()
            elif word == b"E":
                self.exit = (first, wire.number([told[at + 9 : at + 17]], 0))
                self.loop.run_slices(self._drain())
            elif word == b"X":
                self._leave()
                self.release_worker(self.worker)
            else:
                self.reported = True
                self.fail(OSError(first, "") if word == b"F" else Refused("no_process"))

    def _start(self) -> None:
        if not self.started:
            self.started = True
            self.send(wire.STARTED)

    def _let_go(self) -> None:
        """Listen to the supervisor no more."""
        if not self.left and not self.deaf:
            self.deaf = True
            self.loop.forget(self.worker.socket.fileno())

    def _leave(self) -> None:
        self._let_go()
        self.left = True
        self._maybe_gone()

    def _report(self) -> None:
        if self.reported:
            return
        self.reported = True
        code, microseconds = self.exit or (128 + signal.SIGKILL, 0)
        hit = code != 0 and self.count_out_of_memory() > self.out_of_memory_before
        self.send(wire.EXIT, wire.pack([wire.whole(code), wire.whole(microseconds), wire.whole(int(hit))]))
        self._close_input()
        self._maybe_gone()

    def on_reaped(self) -> None:
        """The supervisor is no more: it was killed, by us or by somebody inside."""
        if not self.deaf:
            # It may have told its last words in the moment before.
            self._on_told()
        if self.left:
            return
        if self.exit is None and not self.reported:
            self._start()
            self.exit = (128 + signal.SIGKILL, 0)
            self.loop.run_slices(self._drain())
        self._leave()

    def _maybe_gone(self) -> None:
        if self.left and self.reported:
            self._release()
            self.close(wire.GONE)

    def _release(self) -> None:
        self._close_input()
        for fd in list(self.open_outputs):
            self.loop.forget_source(fd)
            os.close(fd)
        self.open_outputs.clear()

    # Input

    def on_content(self, content: bytes) -> None:
        if not self.input_open or self.input_ends:
            self._grant(len(content))
            return
        self.pending.append(content)
        self._write()

    def on_end(self) -> None:
        self.input_ends = True
        if self.terminal:
            self.pending.append(END_OF_INPUT)
        self._write()

    def _grant(self, size: int) -> None:
        self.send(wire.GRANT, wire.pack([wire.whole(size)]))

    def _write(self) -> None:
        while self.pending and self.input_open:
            content = self.pending[0]
            try:
                written = os.write(self.stdin, content)
            except BlockingIOError:
                break
            except OSError:
                # Nobody reads any more; the daemon may go on sending.
                self._grant(sum(len(left) for left in self.pending if left is not END_OF_INPUT))
                self._close_input()
                return
            if content is not END_OF_INPUT:
                self._grant(written)
            if written == len(content):
                self.pending.popleft()
            else:
                self.pending[0] = content[written:]
        waits = bool(self.pending) and self.input_open
        if waits != self.writing and not self.terminal:
            self.writing = waits
            if waits:
                self.loop.watch(self.stdin, self._write, 4 | 8 | 16)
            else:
                self.loop.forget(self.stdin)
        elif waits and self.terminal:
            # Its descriptor is watched for output already; a terminal takes 4 KiB at a time.
            self.loop.later(0.005, self._write)
        if self.input_ends and not self.pending and not self.terminal:
            self._close_input()

    def _close_input(self) -> None:
        if not self.input_open:
            return
        self.input_open = False
        self.pending.clear()
        if self.writing:
            self.writing = False
            self.loop.forget(self.stdin)
        # A terminal's master is also where output comes from.
        if not self.terminal or self.stdin not in self.open_outputs:
            os.close(self.stdin)

    def on_resize(self, rows: int, columns: int) -> None:
        if self.terminal and self.input_open:
            supervisor.size_terminal(self.stdin, rows, columns)

    # Killing

    def on_kill(self) -> None:
        if not self.killing:
            self.killing = True
            self._kill(processes.kill_below(self.worker.pid))

    def _kill(self, passes: Iterator[int]) -> None:
        if self.left:
            return
        if not next(passes):
            self.quiet += 1
            if self.quiet > QUIET_PASSES:
                # Nothing is left, and yet it does not say so: somebody inside stopped the supervisor itself.
                processes.kill(self.worker.pid)
        if self.marker:
            for pid in processes.marked(self.marker) - {self.worker.pid}:
                processes.kill(pid)
        # Again until the supervisor finds no child left.
        self.loop.later(0.002, lambda: self._kill(passes))


class Slow(Call):
    """A read or another operation in slices."""

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
        try:
            fields = yield from file.finish()
        except (OSError, Refused) as error:
            self._stop(error)
            return
        if self.file is not None:
            file.close()
            self.close(wire.RESULT, wire.pack(fields))

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
            try:
                os.kill(self.pid, signal.SIGKILL)
            except OSError:
                pass
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
        word = error.word.encode() if isinstance(error, Refused) else b"io"
        if isinstance(error, OSError):
            word = word_of(error)
        flush()
        _write_all(fd, wire.frame(wire.FAILURE, 0, wire.pack([word])))
        return
    flush()
    _write_all(fd, wire.frame(wire.RESULT, 0, wire.pack(fields)))


def _write_all(fd: int, content: bytes) -> None:
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(fd, rest) :]
