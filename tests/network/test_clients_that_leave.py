"""A client that leaves: nobody has to answer it any more, and its server is let go at once."""

from __future__ import annotations

import anyio
import pytest

from mcp_spaces.errors import RuntimeUnavailable
from mcp_spaces.network.dialing import Upstream
from tests.network.lab import PATIENCE_S, PUBLIC, laboratory
from tests.security.app import eventually
from tests.security.raw_requests import HOST, LIST, both, post

pytestmark = pytest.mark.anyio

BEGINNING = b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nthe first bytes"


class Silent:
    """A server that says so much, and no more for as long as it is let."""

    def __init__(self, answer: bytes) -> None:
        self.answer = answer
        self.asked = anyio.Event()
        self.let_go = anyio.Event()

    async def __call__(self, client: Upstream) -> None:
        try:
            await client.receive()
            await client.send(self.answer)
            self.asked.set()
            while await client.receive():
                pass
        except RuntimeUnavailable:
            pass
        self.let_go.set()


@pytest.mark.parametrize("how", ["breaks off", "ends"])
@pytest.mark.parametrize(
    ("request_", "answer"),
    [(both(HOST), b""), (both(HOST), BEGINNING), (post("Content-Length: 50"), b"")],
    ids=["before the answer", "in the answer", "in the request"],
)
async def test_n16_a_silent_server_is_let_go_when_its_client_left(request_: bytes, answer: bytes, how: str) -> None:
    server = Silent(answer)
    async with laboratory(LIST) as lab:
        lab.internet.servers[PUBLIC, 80] = server
        client = await lab.client()
        await client.say(request_)
        # Far less than the 120 s after which a connection without a word is closed.
        with anyio.fail_after(PATIENCE_S):
            await server.asked.wait()
            if answer:
                await client.hear(until=answer[-5:])
            if how == "ends":
                await client.end.finish()
            else:
                client.end.close()
            await server.let_go.wait()
        await eventually(lambda: lab.records.of("closed"))
        assert [one.get("reason") for one in lab.records.of("closed")] == ["client_left"]
        assert lab.records.of("refused") == []


async def test_a_client_that_ended_too_early_and_still_listens_is_told_so() -> None:
    async with laboratory(LIST) as lab:
        lab.internet.servers[PUBLIC, 80] = Silent(b"")
        client = await lab.client()
        await client.say(both(HOST))
        await client.end.finish()
        heard = await client.hear()
    assert heard.startswith(b"HTTP/1.1 499 ")
    assert b"reason: client_left" in heard


async def test_a_client_that_reads_to_the_end_did_not_leave() -> None:
    """Also where only the connection's end says that the answer is whole."""

    async def server(client: Upstream) -> None:
        await client.receive()
        await client.send(b"HTTP/1.1 200 OK\r\n\r\nall of it")
        await client.finish()

    async with laboratory(LIST) as lab:
        lab.internet.servers[PUBLIC, 80] = server
        assert (await lab.ask(both(HOST))).endswith(b"all of it")
        await eventually(lambda: lab.records.of("closed"))
        assert [one.get("status") for one in lab.records.of("closed")] == [200]
