"""What a server answers, on its way back: where it ends, and what is seen of one that broke off."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from mcp_spaces.network.answers import MAX_INTERIM
from mcp_spaces.network.dialing import Upstream
from mcp_spaces.network.refusing import first_cause
from mcp_spaces.network.tls import TlsConnection
from tests.network.lab import PUBLIC, Lab, laboratory
from tests.security.app import eventually
from tests.security.raw_requests import HOST, LIST, both, get
from tests.security.secret_scene import REFERENCE, Scene, certificate, scene

pytestmark = pytest.mark.anyio

__all__ = ["certificate", "scene"]


def saying(answer: bytes, *, then_close: bool = True) -> Callable[[Upstream], Awaitable[None]]:
    async def server(client: Upstream) -> None:
        await client.receive()
        await client.send(answer)
        if then_close:
            await client.finish()

    return server


async def reason_of(lab: Lab) -> object:
    await eventually(lambda: lab.records.of("closed"))
    return lab.records.of("closed")[-1].get("reason")


@pytest.mark.parametrize(
    ("method", "status"), [("HEAD", b"200 OK"), ("GET", b"204 No"), ("GET", b"304 Not"), ("HEAD", b"206 Part")]
)
@pytest.mark.parametrize("length", [b"Content-Length: 5", b"Transfer-Encoding: chunked"])
async def test_an_answer_that_has_no_body_ends_with_its_head(method: str, status: bytes, length: bytes) -> None:
    """Also where the server keeps its side open."""
    async with laboratory(LIST) as lab:
        answer = b"HTTP/1.1 " + status + b"\r\n" + length + b"\r\nETag: x\r\n\r\n"
        lab.internet.servers[PUBLIC, 80] = saying(answer, then_close=False)
        heard = await lab.ask(both(HOST).replace(b"GET", method.encode()))
        assert heard.startswith(b"HTTP/1.1 " + status)
        assert heard.endswith(b"\r\n\r\n")
        assert (length in heard, b"ETag: x" in heard) == (True, True)
        assert await reason_of(lab) is None


@pytest.mark.parametrize("body", [b"Content-Length: 10\r\n\r\nab", b"Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n"])
async def test_an_answer_that_is_cut_off_is_recorded_as_one_and_does_not_look_whole(body: bytes) -> None:
    async with laboratory(LIST) as lab:
        lab.internet.servers[PUBLIC, 80] = saying(b"HTTP/1.1 200 OK\r\n" + body)
        heard = await lab.ask(both(HOST))
        assert heard.startswith(b"HTTP/1.1 200")
        assert not heard.endswith(b"0\r\n\r\n")
        assert await reason_of(lab) == "unreachable"


@pytest.mark.parametrize("body", [b"\r\nab", b"Content-Length: 2\r\n\r\nab", b"Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n"])  # fmt: skip
async def test_an_answer_ends_where_it_says_and_what_follows_is_nobody_s(body: bytes) -> None:
    async with laboratory(LIST) as lab:
        later = b"" if body.startswith(b"\r\n") else b"HTTP/1.1 200 another"
        lab.internet.servers[PUBLIC, 80] = saying(b"HTTP/1.1 200 OK\r\n" + body + later)
        heard = await lab.ask(both(HOST))
        assert heard.endswith(body.partition(b"\r\n\r\n")[2] or b"ab")
        assert b"another" not in heard
        assert await reason_of(lab) is None


@pytest.mark.parametrize(("interim", "passes"), [(1, True), (MAX_INTERIM - 1, True), (MAX_INTERIM, False)])
async def test_so_many_interim_answers_are_left_out_and_no_more(interim: int, passes: bool) -> None:
    async with laboratory(LIST) as lab:
        answer = b"HTTP/1.1 103 Early\r\nLink: x\r\n\r\n" * interim + b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
        lab.internet.servers[PUBLIC, 80] = saying(answer)
        heard = await lab.ask(both(HOST))
        assert heard.startswith(b"HTTP/1.1 200") == passes
        assert b"Link" not in heard


async def test_a_switch_that_nobody_asked_for_or_to_something_else_is_none() -> None:
    switched = b"HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: %s\r\n\r\nframes"
    asking = get(f"http://{HOST}/", HOST, "Connection: Upgrade", "Upgrade: websocket")
    async with laboratory(LIST) as lab:
        for request, protocol in ((both(HOST), b"websocket"), (asking, b"h2c"), (asking, b"websocket, h2c")):
            lab.internet.servers[PUBLIC, 80] = saying(switched % protocol)
            assert b"frames" not in await lab.ask(request)
        lab.internet.servers[PUBLIC, 80] = saying(switched % b"WebSocket")
        client = await lab.client()
        await client.say(asking)
        assert (await client.hear(until=b"frames")).startswith(b"HTTP/1.1 101 Switching Protocols\r\n")


async def test_l22_an_end_over_tls_that_nobody_signed_does_not_look_like_one(scene: Scene) -> None:
    """Whoever is on the way could have made it."""

    async def cut(connection: TlsConnection) -> None:
        connection.close()

    scene.site.answer = lambda _: b"HTTP/1.1 200 OK\r\n\r\nhalf of it"
    whole = await scene.ask(f"Authorization: {REFERENCE}")
    assert whole.endswith(b"0\r\n\r\n")
    scene.site.afterwards = cut
    assert not (await scene.ask(f"Authorization: {REFERENCE}")).endswith(b"0\r\n\r\n")
    assert [one.get("reason") for one in scene.lab.records.of("closed")] == [None, "unreachable"]


async def test_a_client_that_knows_no_chunks_is_given_none(scene: Scene) -> None:
    scene.site.answer = lambda _: b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    heard = await scene.lab.ask(
        f"GET http://api.test/ HTTP/1.0\r\nHost: api.test\r\nAuthorization: {REFERENCE}\r\n\r\n".encode()
    )
    assert heard.endswith(b"\r\n\r\nok")
    assert b"chunked" not in heard


def test_a_fault_of_ours_among_other_ends_is_not_told_as_a_server_s() -> None:
    """It goes to the daemon's log, where somebody may see it."""
    with pytest.raises(ZeroDivisionError):
        first_cause(ExceptionGroup("", [EOFError(), ExceptionGroup("", [ZeroDivisionError()])]))
