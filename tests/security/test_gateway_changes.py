"""Rules that change and runtimes that end while connections are open (N13, N17)."""

from __future__ import annotations

import anyio
import anyio.lowlevel
import pytest

from mcp_spaces.network.dialing import Upstream
from mcp_spaces.network.model import NO_ACCESS, Access
from tests.network.lab import OPEN, PATIENCE_S, PUBLIC, RUNTIME, allowing, hello, laboratory
from tests.security.app import eventually
from tests.security.raw_requests import HOST, LIST, both

pytestmark = pytest.mark.anyio


async def test_n13_a_thousand_changes_under_load_never_let_a_wrong_one_through() -> None:
    async with laboratory(NO_ACCESS) as lab:
        wrong: list[bytes] = []
        done = anyio.Event()

        async def change() -> None:
            for turn in range(1_000):
                lab.rules.now = [allowing(HOST), NO_ACCESS, Access(because="policy")][turn % 3]
                await lab.gateway.recheck()
                await anyio.lowlevel.checkpoint()
            done.set()

        async def load() -> None:
            while not done.is_set():
                answer = await lab.ask(both("evil.com"))
                if b"X-Mcp-Spaces-Refused" not in answer:
                    wrong.append(answer)

        with anyio.fail_after(60):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(change)
                for _ in range(4):
                    tasks.start_soon(load)
        assert wrong == []
        assert ("93.184.216.35", 80) not in lab.internet.dialled


async def test_n13_a_change_closes_what_is_open_and_no_longer_permitted() -> None:
    async with laboratory(LIST) as lab:

        async def silent(client: Upstream) -> None:
            await client.receive()
            await client.receive()

        lab.internet.servers[(PUBLIC, 80)] = silent
        client = await lab.client()
        await client.say(both(HOST))
        await eventually(lambda: lab.internet.dialled)
        lab.rules.now = allowing("other.example.com")
        await lab.gateway.recheck()
        with anyio.fail_after(PATIENCE_S):
            assert b"withdrawn" in await client.hear()


async def test_n13_a_change_that_still_permits_leaves_connections_alone() -> None:
    async with laboratory(LIST) as lab:

        async def echo(client: Upstream) -> None:
            while content := await client.receive():
                await client.send(content)

        lab.internet.servers[(PUBLIC, 443)] = echo
        tunnel = await lab.tunnel(f"{HOST}:443")
        lab.rules.now = allowing(HOST)
        await lab.gateway.recheck()
        await tunnel.say(hello(HOST))
        assert await tunnel.hear(until=hello(HOST)) == hello(HOST)


async def test_n17_after_it_was_detached_nothing_of_a_runtime_is_served() -> None:
    async with laboratory(OPEN) as lab:
        assert (await lab.ask(both(HOST))).endswith(b"ok")
        accepted = await lab.client()
        lab.gateway.detach(RUNTIME.id)
        assert await accepted.hear() == b""
        assert await lab.ask(both(HOST)) == b""
        lab.gateway.admit(RUNTIME)
        assert (await lab.ask(both(HOST))).endswith(b"ok")
        await lab.gateway.aclose()
        assert await lab.ask(both(HOST)) == b""
