"""Whose key opens what over HTTP, and what ends with it (T03, T06, T07)."""

from __future__ import annotations

import json
import logging
from typing import Any

import anyio
import pytest

from tests.security.http_edge import BOTH, GUARD_S, hello, http
from tests.server.doors import open_house
from tests.server.small_app import KEY, LINK_TOKEN, OTHER_KEY


@pytest.mark.parametrize(
    "authorization", ["", "Bearer", "Basic abc", f"Bearer {KEY}x", f"Bearer {KEY} {KEY}", "Bearer \x01"]
)
@pytest.mark.parametrize("method", ["POST", "GET", "DELETE"])
async def test_t03_without_a_valid_key_nothing_is_served(authorization: str, method: str) -> None:
    async with http() as client:
        headers = {"accept": BOTH, "content-type": "application/json", "authorization": authorization}
        answer = await client.client.request(
            method, client.house.url, content=b"{}", headers={name: value for name, value in headers.items() if value}
        )
        assert answer.status_code in (400, 401)
        if answer.status_code == 401:
            assert answer.headers["www-authenticate"].startswith("Bearer")


async def test_t03_a_key_in_the_address_opens_nothing_and_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with http() as client:
        for name in ("access_token", "key", "token", "authorization"):
            answer = await client.get(f"/mcp?{name}={KEY}", accept=BOTH)
            assert answer.status_code == 401
        assert (await client.post("tools/list")).status_code == 200
        await client.get(f"/links/{LINK_TOKEN}")
        assert (await client.get(f"/mcp/{KEY}", accept=BOTH)).status_code == 404
    ours = [
        record.getMessage() for record in caplog.records if record.name.startswith(("mcp_spaces", "mcp.", "uvicorn"))
    ]
    assert any("/mcp 401" in line for line in ours)
    assert any("/links/…" in line for line in ours)
    assert not any(KEY in line or LINK_TOKEN in line for line in ours)


async def test_t07_a_session_serves_only_the_key_that_opened_it() -> None:
    listing = json.dumps({"jsonrpc": "2.0", "id": 2, "method": "tools/list"}).encode()
    async with http() as client:
        opened = await hello(client)
        session = opened.headers["mcp-session-id"]
        own = await client.send(listing, mcp_protocol_version="2025-11-25", mcp_session_id=session)
        assert own.status_code == 200
        foreign = await client.send(listing, key=OTHER_KEY, mcp_protocol_version="2025-11-25", mcp_session_id=session)
        unknown = await client.send(listing, key=OTHER_KEY, mcp_protocol_version="2025-11-25", mcp_session_id="f" * 32)
        assert foreign.status_code == unknown.status_code == 404
        assert foreign.json() == unknown.json()


@pytest.mark.parametrize("era", ["auto", "legacy"])
async def test_t06_a_revoked_key_ends_its_running_call_within_two_seconds(era: Any) -> None:
    async with (
        open_house() as house,
        house.client("http", era, key=KEY) as client,
        anyio.create_task_group() as tasks,
    ):

        async def call() -> None:
            result = await client.call_tool("thing_wait", {})
            assert (result.meta or {})["mcp-spaces/error"]["code"] == "cancelled"

        tasks.start_soon(call)
        with anyio.fail_after(10):
            await house.app.bench.waiting.wait()
        # Nothing else would end it.
        with anyio.fail_after(GUARD_S):
            await house.app.revoke(KEY)
            await house.app.bench.cancelled.wait()


async def test_t06_a_session_ends_with_its_key_and_makes_room() -> None:
    async with http(http_sessions_max=2) as client:
        app = client.house.app
        assert [(await hello(client)).status_code, (await hello(client, key=OTHER_KEY)).status_code] == [200, 200]
        assert (await hello(client, key=OTHER_KEY)).status_code == 503
        await app.revoke(KEY)
        with anyio.fail_after(10):
            while (await hello(client, key=OTHER_KEY)).status_code != 200:
                pass


async def test_t06_whoever_comes_later_does_not_put_off_the_end_of_an_expired_key() -> None:
    async with open_house(key_check_s=0.3) as house:
        guard, first = house.server.guard, house.app.keys[KEY]
        with anyio.fail_after(10), guard.following(first) as scope:
            del house.app.keys[KEY]
            while True:
                with guard.following(house.app.keys[OTHER_KEY]):
                    await anyio.sleep(0.05)
        assert scope.cancelled_caught
