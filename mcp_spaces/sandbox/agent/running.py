"""A command that runs under its supervisor: its streams, its end, its killing."""

from __future__ import annotations

import os

from mcp_spaces.sandbox.agent import processes, supervisor, wire
from mcp_spaces.sandbox.agent.calls import Call
from mcp_spaces.sandbox.agent.loop import WRITABLE
from mcp_spaces.sandbox.agent.paths import Refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections import deque
    from collections.abc import Callable, Iterator, Sequence
    from typing import Optional

    from mcp_spaces.sandbox.agent.loop import Loop
else:
    import _signal as signal
    from _collections import deque

DRAIN_BYTES = 1 << 20
"""What is still taken of the output after the program ended: more than any pipe holds, so never cut short; bounded,
since a descendant may go on writing for ever."""
QUIET_PASSES = 25
END_OF_INPUT = b"\x04"


class Streams:
    """Our ends of a command's streams, -1 where there is none; with a terminal, one descriptor for all.

    Raises OSError when none is left.
    """

    def __init__(self, terminal: Optional[tuple[int, int]], *, fed: bool) -> None:
        fds: list[int] = []
        try:
            if terminal is not None:
                fds += os.openpty()
                supervisor.size_terminal(fds[0], *terminal)
                self.stdin = self.stdout = fds[0]
                self.stderr = -1
                self.theirs = (fds[1], fds[1], fds[1])
            else:
                # Not an empty pipe where nothing will come: tools like rg would search that instead of the folder.
                fds += os.pipe() if fed else (os.open("/dev/null", os.O_RDONLY), -1)
                fds += os.pipe() + os.pipe()
                self.stdin, self.stdout, self.stderr = fds[1], fds[2], fds[4]
                self.theirs = (fds[0], fds[3], fds[5])
        except BaseException:
            self.close(fds)
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
        out_of_memory: Callable[[], bool],
        marker: bytes,
        release: Callable[[supervisor.Supervisor], None],
    ) -> None:
        super().__init__(loop, channel, ended)
        self.worker = worker
        self.stdin = streams.stdin
        self.terminal = terminal
        self.release_worker = release
        self.out_of_memory = out_of_memory
        self.marker = marker
        self.exit: Optional[tuple[int, int]] = None
        self.started = False
        self.reported = False
        self.left = False
        self.killing = False
        self.deaf = False
        self.quiet = 0
        self.open_outputs: dict[int, int] = {}
        self.pending: deque[bytes] = deque()
        self.input_open = streams.stdin >= 0
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
        self._start()
        self.reported = True
        code, microseconds = self.exit or (128 + signal.SIGKILL, 0)
        hit = code != 0 and self.out_of_memory()
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
                self.loop.watch(self.stdin, self._write, WRITABLE)
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
