"""How long and how many the parts of a message may be, each to the byte; and what a proxy keeps to itself."""

from __future__ import annotations

import pytest

from mcp_spaces.network import head as heads
from mcp_spaces.network.bodies import MAX_CHUNK_LINE, MAX_TRAILERS, Body
from mcp_spaces.network.head import MAX_FIELDS, MAX_HEAD, MAX_LINE, Framing
from mcp_spaces.network.model import Reason, Refused
from mcp_spaces.network.rules import LONGEST_HOST, MAIL_PORTS
from tests.network.lab import OPEN, laboratory
from tests.security.raw_requests import both, connect


def request(*lines: str) -> heads.RequestHead:
    return heads.request_head("\r\n".join(["GET / HTTP/1.1", *lines]).encode())


def reason_for(*lines: str) -> Reason | None:
    try:
        request(*lines)
    except Refused as refused:
        return refused.reason
    return None


def test_a_line_and_the_number_of_fields_have_exact_limits() -> None:
    assert (MAX_LINE, MAX_FIELDS, MAX_HEAD) == (8_192, 200, 65_536)
    assert reason_for("X: " + "a" * (MAX_LINE - 3)) is None
    assert reason_for("X: " + "a" * (MAX_LINE - 2)) is Reason.TOO_LARGE
    assert reason_for(*["X: a"] * MAX_FIELDS) is None
    assert reason_for(*["X: a"] * (MAX_FIELDS + 1)) is Reason.TOO_LARGE


def test_a_head_that_still_arrives_has_the_same_limits() -> None:
    lines = b"a" * 62 + b"\r\n"
    heads.check_growth(lines * (MAX_HEAD // 64))
    heads.check_growth(lines + b"a" * MAX_LINE)
    for content in (lines * (MAX_HEAD // 64) + b"a", lines + b"a" * (MAX_LINE + 1), b"a" * (MAX_LINE + 1)):
        with pytest.raises(Refused) as refused:
            heads.check_growth(content)
        assert (refused.value.reason, refused.value.status) == (Reason.TOO_LARGE, 431)


def test_a_method_has_32_letters_at_most() -> None:
    assert heads.request_head(b"A" * 32 + b" / HTTP/1.1").method == "A" * 32
    with pytest.raises(Refused):
        heads.request_head(b"A" * 33 + b" / HTTP/1.1")


@pytest.mark.parametrize(
    "line", ["GET /", "GET / HTTP/1.1 x", "GET  / HTTP/1.1", "GET / HTTP/1.2", "GET / http/1.1", "G(T / HTTP/1.1", "GET \x7f HTTP/1.1", ""]
)  # fmt: skip
def test_a_request_line_has_three_parts_and_a_version_that_is_known(line: str) -> None:
    with pytest.raises(Refused) as refused:
        heads.request_head(line.encode())
    assert refused.value.reason is Reason.MALFORMED


@pytest.mark.parametrize("line", ["no-colon", "", ": no name", "two words: x", "X\t: y", "X: a\x0bb", "X: a\x7f"])
def test_a_field_has_a_name_and_a_colon(line: str) -> None:
    assert reason_for(line) is Reason.MALFORMED
    assert reason_for("X:", "X:\ty ", "X: a:b") is None


@pytest.mark.parametrize("status", ["99", "0200", "099", "600", "2x0", "+20", "20\u0660"])
def test_a_status_is_a_number_from_100_to_599(status: str) -> None:
    assert [heads.response_head(b"HTTP/1.1 %d" % one).status for one in (100, 599)] == [100, 599]
    with pytest.raises(Refused):
        heads.response_head(f"HTTP/1.1 {status} OK".encode())


def test_a_phrase_and_a_version_that_two_readers_would_read_in_two_ways_are_refused() -> None:
    assert heads.response_head(b"HTTP/1.0 200 So\tit is").phrase == "So\tit is"
    for line in (b"HTTP/1.1 200 O\rK", b"HTTP/1.1 200 O\0K", b"HTTP/1.2 200 OK", b"http/1.1 200 OK"):
        with pytest.raises(Refused):
            heads.response_head(line)


@pytest.mark.parametrize(
    ("fields", "version"),
    [
        ([("Transfer-Encoding", "chunked")], "HTTP/1.0"),
        ([("Transfer-Encoding", "chunked"), ("Transfer-Encoding", "chunked")], "HTTP/1.1"),
        ([("Transfer-Encoding", "gzip, chunked")], "HTTP/1.1"),
        ([("Transfer-Encoding", "")], "HTTP/1.1"),
        ([("Content-Length", "1" * 19)], "HTTP/1.1"),
        ([("Content-Length", "")], "HTTP/1.1"),
        ([("Content-Length", "3"), ("Transfer-Encoding", "chunked")], "HTTP/1.1"),
        ([("Content-Length", "\u0663")], "HTTP/1.1"),
        ([("Content-Length", "3"), ("content-length", "3")], "HTTP/1.1"),
    ],
)
def test_a_length_that_could_be_read_in_two_ways_is_refused(fields: heads.Fields, version: str) -> None:
    with pytest.raises(Refused) as refused:
        heads.framing(fields, version=version)
    assert refused.value.reason is Reason.MALFORMED


def test_a_length_is_said_once_or_not_at_all() -> None:
    assert heads.framing([("CONTENT-LENGTH", "1" * 18)], version="HTTP/1.0") == Framing(length=int("1" * 18))
    assert heads.framing([("Transfer-Encoding", "Chunked ")], version="HTTP/1.1") == Framing(chunked=True)
    assert heads.framing([], version="HTTP/1.1") == Framing()


def test_what_concerns_only_one_hop_is_not_passed_on() -> None:
    hop = (
        "Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization", "Proxy-Connection", "TE", "Trailer",
        "Transfer-Encoding", "Upgrade", "HTTP2-Settings",
    )  # fmt: skip
    fields = [(name, "X-Named, , host ,Content-Length") for name in hop]
    kept = [("Host", "a.test"), ("Content-Length", "2"), ("X-Other", "1")]
    assert heads.end_to_end([*fields, ("X-Named", "1"), *kept]) == kept
    # What is taken away on purpose goes, whether or not `Connection` names it.
    assert heads.end_to_end([*fields, *kept], without=("host", "x-other")) == [("Content-Length", "2")]


def test_a_chunk_s_line_and_all_trailers_together_have_exact_limits() -> None:
    assert (MAX_CHUNK_LINE, MAX_TRAILERS) == (1_024, 8_192)

    def is_over(content: bytes) -> bool:
        body = Body(Framing(chunked=True), until_closed=False)
        assert body.needs_end
        assert body.take(content + b"after") == content
        return body.is_over

    line, trailer = b"0;" + b"x" * (MAX_CHUNK_LINE - 4), b"X: " + b"y" * 1_019
    assert len(trailer) * 8 < MAX_TRAILERS < len(trailer) * 8 + 17
    rest = b"z" * (MAX_TRAILERS - len(trailer) * 8)
    assert is_over(line + b"\r\n\r\n")
    assert is_over(b"0\r\n" + (trailer + b"\r\n") * 8 + rest + b"\r\n\r\n")
    for content in (line + b"x\r\n\r\n", b"0\r\n" + (trailer + b"\r\n") * 8 + rest + b"z\r\n\r\n"):
        with pytest.raises(Refused):
            is_over(content)


def test_only_what_the_chunks_hold_is_content() -> None:
    body = Body(Framing(chunked=True), until_closed=True)
    assert body.content(b"3;x=y\r\nab") + body.content(b"c\r\n0\r\nX: late\r\n\r\nafter") == b"abc"
    assert body.is_over


def test_without_chunks_a_body_ends_with_its_length_or_with_the_connection_or_is_none() -> None:
    known = Body(Framing(length=3), until_closed=True)
    assert (known.take(b"ab"), known.is_over, known.needs_end) == (b"ab", False, True)
    assert (known.content(b"cd"), known.is_over) == (b"c", True)
    assert known.take(b"e") == b""
    empty = Body(Framing(length=0), until_closed=True)
    assert (empty.is_over, empty.needs_end) == (True, False)
    none = Body(Framing(), until_closed=False)
    assert (none.is_over, none.take(b"next request"), none.needs_end) == (True, b"", False)
    whole = Body(Framing(), until_closed=True)
    assert (whole.take(b"abc"), whole.is_over, whole.needs_end) == (b"abc", False, False)


@pytest.mark.anyio
async def test_a_name_has_253_letters_at_most_and_mail_goes_nowhere() -> None:
    longest = ".".join(["a" * 63] * 3 + ["b" * 61])
    assert len(longest) == LONGEST_HOST == 253
    async with laboratory(OPEN) as lab:
        assert b"unknown_host" in await lab.ask(both(longest))
        assert b"bad_host" in await lab.ask(both(longest + "b"))
        for port in (25, 465, 587):
            assert b"mail_port" in await lab.ask(connect(f"api.example.com:{port}"))
        assert lab.internet.dialled == []
    assert len(MAIL_PORTS) == 3
