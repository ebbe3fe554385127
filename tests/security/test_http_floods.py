"""HTTP clients that are too slow (D10) or too many (D11)."""

from __future__ import annotations

import asyncio
import socket
from contextlib import AsyncExitStack, suppress

import anyio
import pytest

from tests.security.http_edge import GUARD_S, hello, http
from tests.server.doors import open_house
from tests.server.small_app import KEY, OTHER_KEY


@pytest.mark.parametrize(("header_s", "count"), [(60, 500), (1, 50)])
async def test_d10_connections_that_send_nothing_are_closed_and_hold_up_nobody(header_s: int, count: int) -> None:
    async with http(http_header_s=header_s, http_connections_max=1_024) as client, AsyncExitStack() as connections:
        half_open = []
        for number in range(count):
            reader, writer = await asyncio.open_connection("127.0.0.1", client.port)
            connections.callback(writer.close)
            if number % 2:
                writer.write(b"POST /mcp HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: ")
            half_open.append(reader)
        if header_s > GUARD_S:
            # Long before any of them is closed.
            with anyio.fail_after(GUARD_S):
                for _ in range(20):
                    assert (await client.post("tools/list")).status_code == 200
        else:
            with anyio.fail_after(GUARD_S):
                for reader in half_open:
                    await _until_closed(reader)


async def _until_closed(reader: asyncio.StreamReader) -> None:
    with suppress(ConnectionError):
        while await reader.read(1024):
            pass


async def test_d10_a_body_that_never_comes_closes_the_connection() -> None:
    async with http(http_body_s=0.3) as client:
        reader, writer = await asyncio.open_connection("127.0.0.1", client.port)
        head = (
            f"POST /mcp HTTP/1.1\r\nHost: 127.0.0.1:{client.port}\r\nAuthorization: Bearer {KEY}\r\n"
            "Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
        )
        writer.write(head.encode())
        with anyio.fail_after(GUARD_S):
            await _until_closed(reader)
        writer.close()


async def test_d10_a_slow_second_request_on_a_kept_connection_is_closed_too() -> None:
    async with http(http_header_s=2) as client:
        reader, writer = await asyncio.open_connection("127.0.0.1", client.port)
        writer.write(f"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1:{client.port}\r\n\r\n".encode())
        with anyio.fail_after(GUARD_S):
            assert b"200 OK" in await reader.readline()
            writer.write(b"GET /healthz HTTP/1.1\r\n")
            await _until_closed(reader)
        writer.close()


async def test_d10_an_answer_may_take_longer_than_a_request() -> None:
    async with (
        open_house(http_header_s=2, http_body_s=2) as house,
        house.client("http") as client,
        anyio.create_task_group() as tasks,
    ):

        async def call() -> None:
            assert not (await client.call_tool("thing_wait", {})).is_error

        tasks.start_soon(call)
        with anyio.fail_after(10):
            await house.app.bench.waiting.wait()
            # The deadlines themselves are what has to pass.
            await _clock_passes(2.5)
        house.app.bench.go_on.set()


async def _clock_passes(seconds: float) -> None:
    passed = asyncio.Event()
    asyncio.get_running_loop().call_later(seconds, passed.set)
    await passed.wait()


async def test_d11_connections_above_the_limit_are_told_so() -> None:
    async with http(http_connections_max=8) as client:
        idle = [socket.create_connection(("127.0.0.1", client.port)) for _ in range(8)]
        try:
            with anyio.fail_after(GUARD_S):
                while (await client.get("/healthz")).status_code != 503:
                    await anyio.wait_all_tasks_blocked()
        finally:
            for one in idle:
                one.close()
        with anyio.fail_after(GUARD_S):
            while (await client.get("/healthz")).status_code != 200:
                await anyio.wait_all_tasks_blocked()


async def test_d11_one_keys_calls_are_counted_over_all_its_connections() -> None:
    async with http(agent_calls_max=2) as client, anyio.create_task_group() as tasks:
        wait = {"name": "thing_wait", "arguments": {}}
        echo = {"name": "thing_echo", "arguments": {"text": "a"}}
        for _ in range(2):
            tasks.start_soon(client.post, "tools/call", wait)
        with anyio.fail_after(10):
            while len(client.house.app.pipeline.active._by_run) < 2:
                await anyio.wait_all_tasks_blocked()
        refused = (await client.post("tools/call", echo)).json()["result"]
        assert refused["_meta"]["mcp-spaces/error"]["code"] == "quota"
        other = (await client.post("tools/call", echo, key=OTHER_KEY)).json()["result"]
        assert "isError" not in other or not other["isError"]
        client.house.app.bench.go_on.set()


async def test_d11_sessions_above_the_limit_are_refused() -> None:
    async with http(http_sessions_max=2) as client:
        assert [(await hello(client)).status_code for _ in range(3)] == [200, 200, 503]


async def test_d11_one_key_opens_so_many_sessions_and_leaves_room_for_others() -> None:
    async with http(http_sessions_per_key_max=2) as client:
        opened = [await hello(client) for _ in range(3)]
        assert [one.status_code for one in opened] == [200, 200, 503]
        assert (await hello(client, key=OTHER_KEY)).status_code == 200
        session = opened[0].headers["mcp-session-id"]
        headers = {"authorization": f"Bearer {KEY}", "mcp-session-id": session, "mcp-protocol-version": "2025-11-25"}
        await client.client.delete(client.house.url, headers=headers)
        assert (await hello(client)).status_code == 200
