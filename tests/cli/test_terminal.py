"""The frames and the keys of `connect`."""

from __future__ import annotations

import socket

import pytest

from mcp_spaces.cli.connect import Frames, Keys
from mcp_spaces.cli.wire import NoDaemon
from mcp_spaces.server import terminal
from mcp_spaces.server.terminal import Frame


@pytest.mark.parametrize(
    ("typed", "passed", "leaves"),
    [
        ([b"ls\r"], b"ls\r", False),
        ([b"~."], b"", True),
        ([b"ls\r~", b"."], b"ls\r", True),
        ([b"echo ~.\r"], b"echo ~.\r", False),
        ([b"~~x"], b"~x", False),
        ([b"\r~a."], b"\r~a.", False),
    ],
)
def test_enter_tilde_dot_leaves_and_everything_else_goes_through(
    typed: list[bytes], passed: bytes, *, leaves: bool
) -> None:
    keys = Keys()
    assert b"".join(map(keys.press, typed)) == passed
    assert keys.leaving is leaves


def test_frames_come_out_whole_however_they_arrive() -> None:
    near, far = socket.socketpair()
    with near, far:
        packed = terminal.frame(Frame.OUTPUT, b"hello") + terminal.frame(Frame.EXIT, b"{}")
        frames, found = Frames(near), []
        for byte in packed:
            far.send(bytes([byte]))
            found += list(frames.received())
        assert found == [(Frame.OUTPUT, b"hello"), (Frame.EXIT, b"{}")]
        far.close()
        with pytest.raises(NoDaemon):
            list(frames.received())


def test_a_frame_that_is_none_or_too_long_is_refused() -> None:
    with pytest.raises(terminal.BrokenFrame):
        terminal.header(b"?\x00\x00\x00\x01")
    with pytest.raises(terminal.BrokenFrame):
        terminal.header(b"i\xff\xff\xff\xff")


def test_only_the_exact_first_line_asks_for_a_terminal() -> None:
    assert terminal.wanted(terminal.preamble({"space": "work"})) == {"space": "work"}
    assert terminal.wanted(b'{"mcp-spaces":1,"key":"msp_x"}\n') is None
    assert terminal.wanted(b'{"mcp-spaces": 1, "terminal": {}, "key": "x"}\n') is None
    assert terminal.wanted(b'{"jsonrpc":"2.0"}\n') is None
