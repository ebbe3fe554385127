"""`mcp-spaces connect`: a shell in a sandbox, at this terminal."""

from __future__ import annotations

import json
import os
import re
import select
import shutil
import signal
import socket
import sys
import termios
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer

from mcp_spaces.cli import calls, show
from mcp_spaces.cli.wire import NoDaemon, Refusal
from mcp_spaces.server import terminal
from mcp_spaces.server.terminal import Frame

CHUNK_BYTES = 1 << 15
CALM = b"\x1b[?1049l\x1b[?2004l\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1006l\x1b[?25h\x1b[0m"
"""Main screen, no bracketed paste, no mouse reports, a cursor, no colour: what a killed editor leaves behind."""


def connect(
    context: typer.Context,
    space: Annotated[str, typer.Argument(help="Id, unique name, or default.")],
    runtime: Annotated[str | None, typer.Argument(help="Id or alias; may be left out where there is one.")] = None,
) -> None:
    """A shell in a sandbox, at this terminal. Ends with the shell's exit code; `Enter ~ .` leaves at once."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise typer.BadParameter("this needs a terminal; for one command use: mcp-spaces sandbox shell", ctx=context)
    with calls.failures(as_json=False):
        if calls.target(context).server is not None:
            raise Refusal("A terminal goes to the daemon of this machine only.", hint="Leave --server out, over ssh.")
        from mcp_spaces.cli.local import LocalDaemon

        columns, rows = shutil.get_terminal_size()
        arguments: dict[str, Any] = {"space": space, "rows": rows, "columns": columns}
        if runtime is not None:
            arguments["runtime"] = runtime
        if re.fullmatch(r"[A-Za-z0-9._+-]{1,40}", os.environ.get("TERM", "")):
            arguments["term"] = os.environ["TERM"]
        with LocalDaemon(os.environ, say=show.say).connect() as connection:
            connection.sendall(terminal.preamble(arguments))
            code = attend(connection)
    raise typer.Exit(code)


def attend(connection: socket.socket) -> int:
    """Be the terminal until the shell ends; its exit code. Raises Refusal or NoDaemon."""
    frames = Frames(connection)
    keys = Keys()
    with raw() as screen, resizes() as resized:
        watched = [sys.stdin.fileno(), connection.fileno(), resized]
        while True:
            ready, _, _ = select.select(watched, [], [])
            if resized in ready:
                os.read(resized, CHUNK_BYTES)
                columns, rows = shutil.get_terminal_size()
                size = json.dumps({"rows": rows, "columns": columns}).encode()
                connection.sendall(terminal.frame(Frame.RESIZE, size))
            if sys.stdin.fileno() in ready:
                typed = os.read(sys.stdin.fileno(), CHUNK_BYTES)
                wanted = keys.press(typed)
                if wanted:
                    connection.sendall(terminal.frame(Frame.INPUT, wanted))
                if keys.leaving or not typed:
                    return 0
            if connection.fileno() in ready:
                for kind, content in frames.received():
                    match kind:
                        case Frame.OUTPUT:
                            screen.show(content)
                        case Frame.EXIT:
                            return int(json.loads(content)["exit_code"])
                        case Frame.ERROR:
                            raise _refusal(json.loads(content))
                        case Frame.INPUT | Frame.RESIZE:
                            raise NoDaemon("The daemon speaks another protocol.", hint="Update mcp-spaces.")


class Frames:
    """Takes frames out of what has arrived."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._arrived = b""

    def received(self) -> Iterator[tuple[Frame, bytes]]:
        """The frames that are whole by now. Raises NoDaemon when the other side is gone."""
        chunk = self._connection.recv(CHUNK_BYTES)
        if not chunk:
            raise NoDaemon("The daemon closed the connection.", hint="Run: mcp-spaces doctor")
        self._arrived += chunk
        while len(self._arrived) >= terminal.HEADER.size:
            kind, length = terminal.header(self._arrived[: terminal.HEADER.size])
            end = terminal.HEADER.size + length
            if len(self._arrived) < end:
                return
            content, self._arrived = self._arrived[terminal.HEADER.size : end], self._arrived[end:]
            yield kind, content


class Keys:
    """What goes to the shell; `Enter ~ .` does not, and leaves, as with ssh. `Enter ~ ~` is one `~`."""

    def __init__(self) -> None:
        self.leaving = False
        self._line_begins = True
        self._held = False

    def press(self, typed: bytes) -> bytes:
        passed = bytearray()
        for key in typed:
            if self._held:
                self._held = False
                if key == ord("."):
                    self.leaving = True
                    break
                passed += b"~" if key == ord("~") else bytes([ord("~"), key])
            elif self._line_begins and key == ord("~"):
                self._held = True
                continue
            else:
                passed.append(key)
            self._line_begins = key in b"\r\n"
        return bytes(passed)


class Screen:
    """Takes the shell's output as it is. `used` once there was any."""

    used = False

    def show(self, output: bytes) -> None:
        self.used = True
        while output:
            output = output[os.write(sys.stdout.fileno(), output) :]


@contextmanager
def raw() -> Iterator[Screen]:
    """Every key goes through as it is; afterwards the terminal is as it was."""
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    screen = Screen()
    try:
        tty.setraw(descriptor)
        yield screen
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
        if screen.used:
            screen.show(CALM)


@contextmanager
def resizes() -> Iterator[int]:
    """A descriptor that has something to read whenever the window changed."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    before_descriptor = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    before = signal.signal(signal.SIGWINCH, lambda *_: None)
    try:
        yield reader
    finally:
        signal.signal(signal.SIGWINCH, before)
        signal.set_wakeup_fd(before_descriptor)
        os.close(reader)
        os.close(writer)


def _refusal(error: dict[str, Any]) -> Refusal:
    return Refusal(error["message"], hint=error.get("hint", ""), code=error.get("code", "internal"))
