"""The agent's event loop: frames in, frames out, and whatever file descriptors the calls wait for.

Nothing here blocks. Output of commands is taken only while there is room to send it, so that a slow daemon slows the
commands and not the agent; slices of file operations run in turns, each once per round.
"""

from __future__ import annotations

import os
import select
import time

from mcp_spaces.sandbox.agent.wire import HEADER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Callable, Iterator
else:
    from _collections import deque

READABLE = select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR
WRITABLE = select.EPOLLOUT | select.EPOLLHUP | select.EPOLLERR
FULL_BYTES = 512 * 1024
"""From here on no more output is taken until some was sent."""
READ_BYTES = 256 * 1024
GATHER = 64


class Loop:
    def __init__(self, incoming: int, outgoing: int) -> None:
        self.incoming = incoming
        self.outgoing = outgoing
        self.on_frame: Callable[[int, int, bytes], None] = lambda kind, channel, payload: None
        self._control = select.epoll()
        # The commands' output, in a set of its own that can be left alone as a whole.
        self._sources = select.epoll()
        self._sources_watched = True
        self._handlers: dict[int, Callable[[], object]] = {}
        self._out: deque[memoryview] = deque()
        self._out_bytes = 0
        self._blocked = False
        self._over = False
        self._slices: deque[Iterator[object]] = deque()
        self._timers: list[tuple[float, Callable[[], None]]] = []
        os.set_blocking(incoming, False)
        os.set_blocking(outgoing, False)
        self._control.register(incoming, READABLE)
        self._control.register(self._sources.fileno(), select.EPOLLIN)
        self._received = bytearray()
        self._buffer = bytearray(READ_BYTES)
        self._view = memoryview(self._buffer)

    def move(self, fd: int) -> None:
        """From now on frames come and go over this socket. The end of the stream before still ends everything."""
        former = self.incoming
        self._control.unregister(former)
        self.watch(former, lambda: self._on_former(former))
        self.incoming, self.outgoing = fd, os.dup(fd)
        os.set_blocking(fd, False)
        self._control.register(fd, READABLE)

    def _on_former(self, fd: int) -> None:
        try:
            self._over = not os.read(fd, READ_BYTES)
        except BlockingIOError:
            pass

    def send(self, kind: int, channel: int, payload: bytes = b"") -> None:
        header = HEADER.pack(len(payload), kind, channel)
        self._out.append(memoryview(header + payload if len(payload) < 4096 else header))
        if len(payload) >= 4096:
            self._out.append(memoryview(payload))
        self._out_bytes += len(header) + len(payload)

    def watch(self, fd: int, handler: Callable[[], None], events: int = READABLE) -> None:
        self._handlers[fd] = handler
        self._control.register(fd, events)

    def watch_source(self, fd: int, handler: Callable[[], object]) -> None:
        self._handlers[fd] = handler
        self._sources.register(fd, READABLE)

    def forget(self, fd: int) -> None:
        del self._handlers[fd]
        self._control.unregister(fd)

    def forget_source(self, fd: int) -> None:
        del self._handlers[fd]
        self._sources.unregister(fd)

    def run_slices(self, slices: Iterator[object]) -> None:
        self._slices.append(slices)

    def later(self, seconds: float, action: Callable[[], None]) -> None:
        self._timers.append((time.monotonic() + seconds, action))

    def run(self) -> None:
        """Until the daemon is gone."""
        while not self._over:
            if self._out and not self._blocked:
                self._flush()
            crowded = self._out_bytes > FULL_BYTES
            if crowded == self._sources_watched:
                self._sources_watched = not crowded
                if crowded:
                    self._control.unregister(self._sources.fileno())
                else:
                    self._control.register(self._sources.fileno(), select.EPOLLIN)
            for fd, _ in self._control.poll(self._pause(crowded)):
                if fd == self.incoming:
                    if not self._receive():
                        return
                elif fd == self.outgoing:
                    self._blocked = False
                    self._control.unregister(fd)
                elif fd == self._sources.fileno():
                    self._take_output()
                else:
                    handler = self._handlers.get(fd)
                    if handler is not None:
                        handler()
            self._run_timers()
            if not crowded:
                for _ in range(len(self._slices)):
                    slices = self._slices.popleft()
                    if next(slices, self) is not self:
                        self._slices.append(slices)

    def _pause(self, crowded: bool) -> float:
        if self._slices and not crowded:
            return 0
        if self._timers:
            return max(0.0, min(when for when, _ in self._timers) - time.monotonic())
        return -1

    def _run_timers(self) -> None:
        if self._timers:
            now = time.monotonic()
            due = [action for when, action in self._timers if when <= now]
            self._timers = [timer for timer in self._timers if timer[0] > now]
            for action in due:
                action()

    def _take_output(self) -> None:
        for fd, _ in self._sources.poll(0):
            handler = self._handlers.get(fd)
            if handler is not None:
                handler()
            if self._out_bytes > FULL_BYTES:
                return

    def _receive(self) -> bool:
        try:
            size = os.readv(self.incoming, [self._buffer])
        except BlockingIOError:
            return True
        if not size:
            return False
        received = self._received
        received += self._view[:size]
        at = 0
        while len(received) - at >= HEADER.size:
            size, kind, channel = HEADER.unpack_from(received, at)
            end = at + HEADER.size + size
            if len(received) < end:
                break
            payload = bytes(received[at + HEADER.size : end])
            at = end
            self.on_frame(kind, channel, payload)
        del received[:at]
        return True

    def _flush(self) -> None:
        out = self._out
        while out:
            try:
                sent = os.writev(self.outgoing, [out[index] for index in range(min(GATHER, len(out)))])
            except BlockingIOError:
                self._blocked = True
                self._control.register(self.outgoing, select.EPOLLOUT)
                return
            self._out_bytes -= sent
            while sent:
                first = out[0]
                if len(first) > sent:
                    out[0] = first[sent:]
                    break
                sent -= len(first)
                out.popleft()
