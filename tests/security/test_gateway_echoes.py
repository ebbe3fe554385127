"""Servers that send a secret back (L22, L25): it is found in every form and at every cut."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from urllib.parse import quote

import anyio
import pytest

from mcp_spaces.core.redaction import encodings
from mcp_spaces.network.scrubbing import Scrubber
from mcp_spaces.network.tls import TlsConnection
from tests.security.secret_scene import (
    CANARY,
    HOST,
    REFERENCE,
    Scene,
    body_of,
    certificate,
    no_secret_in,
    scene,
    status,
)

pytestmark = pytest.mark.anyio

__all__ = ["certificate", "scene"]


def forms() -> Iterator[str]:
    yield from sorted(encodings(CANARY))


@pytest.mark.parametrize("piece_bytes", [1, 2, 3, 7, 64, 1 << 20])
async def test_l22_l25_what_a_server_echoes_comes_back_without_the_secret_wherever_it_is_cut(
    scene: Scene, piece_bytes: int
) -> None:
    body = "".join(f"<{form}>\n" for form in forms()).encode()
    chunked = b"".join(
        b"%x;x=y\r\n%s\r\n" % (len(body[at : at + 5]), body[at : at + 5]) for at in range(0, len(body), 5)
    )
    head = (
        f"HTTP/1.1 418 you sent {CANARY}\r\nX-Echo: {CANARY}\r\nX-{CANARY.encode().hex()}: 1\r\n"
        f"Set-Cookie: x={quote(CANARY, safe='')}\r\nTransfer-Encoding: chunked\r\nTrailer: X-Late\r\n\r\n"
    ).encode()
    scene.site.answer = lambda _: head + chunked + f"0\r\nX-Late: {CANARY}\r\n\r\n".encode()
    scene.site.piece_bytes = piece_bytes
    answer = await scene.ask(f"Authorization: {REFERENCE}")
    assert status(answer) == 418
    assert no_secret_in(answer)
    assert no_secret_in(body_of(answer))
    assert set(body_of(answer).split()) == {b"<[redacted:prod/api]>"}
    assert b"X-Echo: [redacted:prod/api]" in answer
    assert b"X-Late" not in answer


async def test_l25_an_error_of_a_server_is_searched_and_so_are_later_answers(scene: Scene) -> None:
    """Also where the later request names no secret: the server may have kept it."""
    scene.site.answer = lambda _: f"HTTP/1.1 401 no\r\nContent-Length: 30\r\n\r\nbad key {CANARY}"[:200].encode()
    first = await scene.ask(f"Authorization: {REFERENCE}")
    later = await scene.ask()
    for answer in (first, later):
        assert no_secret_in(answer)
    assert b"bad key [redacted:" in body_of(later)


async def test_l22_an_answer_that_could_hide_the_secret_is_not_asked_for_and_not_passed_on(scene: Scene) -> None:
    await scene.ask(f"Authorization: {REFERENCE}", "Accept-Encoding: gzip, br", "Range: bytes=0-3", "If-Range: x")
    assert b"Accept-Encoding: identity\r\n" in scene.sent
    assert b"gzip" not in scene.sent
    assert b"Range" not in scene.sent
    squeezed = gzip.compress(CANARY.encode())
    for head in (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip", b"HTTP/1.1 206 Part"):
        scene.site.answer = lambda _, head=head: head + b"\r\n\r\n" + squeezed  # type: ignore[misc]
        answer = await scene.ask(f"Authorization: {REFERENCE}")
        assert status(answer) == 502
        assert squeezed not in answer
    assert scene.reasons() == ["encoded_answer"] * 2


async def test_l22_a_websocket_echo_is_masked_without_breaking_its_frames(scene: Scene) -> None:
    frame = b"\x81" + bytes([len(CANARY.encode())]) + CANARY.encode()
    scene.site.answer = lambda _: (
        b"HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n" + frame + b"\x88\x00"
    )
    client = await scene.lab.client()
    await client.say(
        f"GET http://{HOST}/ HTTP/1.1\r\nHost: {HOST}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        f"Sec-WebSocket-Extensions: permessage-deflate\r\nAuthorization: Bearer {REFERENCE}\r\n\r\n".encode()
    )
    answer = await client.hear(until=b"\x88\x00")
    client.end.close()
    assert status(answer) == 101
    assert answer.endswith(frame[:2] + b"*" * len(CANARY.encode()) + b"\x88\x00")
    assert b"Extensions" not in scene.sent


async def test_events_are_not_held_up_by_the_search(scene: Scene) -> None:
    """What cannot begin a secret goes on at once: a stream of events stays one."""
    go = anyio.Event()

    async def more(connection: TlsConnection) -> None:
        await go.wait()
        await connection.send(b"data: two\n\n")

    scene.site.answer = lambda _: b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: one\n\n"
    scene.site.afterwards = more
    client = await scene.lab.client()
    await client.say(f"GET http://{HOST}/ HTTP/1.1\r\nHost: {HOST}\r\nAuthorization: {REFERENCE}\r\n\r\n".encode())
    assert b"data: one\n\n" in await client.hear(until=b"one\n\n")
    go.set()
    assert b"data: two\n\n" in await client.hear()


def test_l22_a_secret_that_overlaps_another_is_masked_at_its_length_at_every_cut() -> None:
    scrubber = Scrubber()
    scrubber.learn("first-secret", name="a")
    scrubber.learn("secret-second", name="b")
    content = b"\x81\x13first-secret-second\x88\x00"
    for cut in range(len(content)):
        stream = scrubber.stream(same_length=True)
        masked = stream.feed(content[:cut]) + stream.feed(content[cut:]) + stream.finish()
        assert masked == b"\x81\x13" + b"*" * 19 + b"\x88\x00"


def test_l22_the_search_finds_every_form_at_every_cut_and_holds_back_no_more_than_it_must() -> None:
    scrubber = Scrubber()
    scrubber.learn(CANARY, name="prod/api")
    for form in forms():
        content = f"before {form} after".encode()
        for cut in range(len(content)):
            stream = scrubber.stream()
            assert (
                stream.feed(content[:cut]) + stream.feed(content[cut:]) + stream.finish()
                == b"before [redacted:prod/api] after"
            )
    stream = scrubber.stream()
    assert stream.feed(b"data: 1\n\n") == b"data: 1\n\n"
