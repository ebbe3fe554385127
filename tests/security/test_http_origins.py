"""From where and by which name Streamable HTTP is reached (N04, N18, N19, N20), and by no older way (T23)."""

from __future__ import annotations

import pytest

from mcp_spaces.errors import InvalidInput
from mcp_spaces.server.http import check_bind
from mcp_spaces.settings import Settings
from tests.security.http_edge import ERAS, http
from tests.server.small_app import KEY, LINK_TOKEN


@pytest.mark.parametrize("path", ["/mcp", "/links/" + LINK_TOKEN, "/healthz", "/anything"])
@pytest.mark.parametrize("host", ["evil.test", "127.0.0.1", "localhost.evil.test", "127.0.0.1:1", "", "[::1]"])
async def test_n18_another_host_is_refused_on_every_route(path: str, host: str) -> None:
    async with http() as client:
        answer = await client.get(path, host=host, authorization=f"Bearer {KEY}")
        assert answer.status_code in (400, 403)
        assert not client.house.app.redeemed


async def test_n18_the_servers_own_names_are_accepted() -> None:
    async with http(http_allowed_hosts="spaces.example.org") as client:
        for host in (
            f"127.0.0.1:{client.port}",
            f"localhost:{client.port}",
            f"[::1]:{client.port}",
            "spaces.example.org",
        ):
            assert (await client.get("/healthz", host=host)).status_code == 200


@pytest.mark.parametrize("bound", ["0.0.0.0", "127.0.0.1"])
async def test_n18_host_is_checked_whatever_address_is_bound(bound: str) -> None:
    async with http(http_host=bound, http_allowed_hosts=("spaces.example.org",), http_behind_tls_proxy=True) as client:
        assert (await client.get("/healthz", host="spaces.example.org")).status_code == 200
        assert (await client.get("/healthz", host="spaces.example.org.evil.test")).status_code == 403


@pytest.mark.parametrize(
    "content_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=a", ""]
)
@pytest.mark.parametrize("era", ERAS)
async def test_n19_what_a_page_can_send_without_asking_is_not_read(content_type: str, era: str) -> None:
    async with http() as client:
        answer = await client.post(
            "tools/call",
            {"name": "thing_echo", "arguments": {"text": "a"}},
            content_type=content_type,
            mcp_protocol_version=era,
        )
        assert answer.status_code == 415
        assert "set-cookie" not in answer.headers
        assert "access-control-allow-origin" not in answer.headers
        assert not client.house.app.bench.calls


@pytest.mark.parametrize(
    "origin",
    [
        "null",
        "http://localhost.evil",
        "http://127.0.0.1:1@evil.test",
        "https://evil.test",
        "http://127.0.0.1",
        "file://",
    ],
)
async def test_n20_another_origin_is_refused(origin: str) -> None:
    async with http() as client:
        assert (await client.post("tools/list", origin=origin)).status_code == 403
        own = f"http://localhost:{client.port}"
        assert (await client.post("tools/list", origin=own)).status_code == 200


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "spaces.example.org"])
def test_n04_nobody_else_can_reach_the_server_without_names_and_tls(host: str) -> None:
    with pytest.raises(InvalidInput, match="no name is allowed"):
        check_bind(Settings(http_host=host, http_port=0))
    with pytest.raises(InvalidInput, match="clear text"):
        check_bind(Settings(http_host=host, http_port=0, http_allowed_hosts=("a.example",)))
    check_bind(Settings(http_host=host, http_port=0, http_allowed_hosts=("a.example",), http_behind_tls_proxy=True))
    for loopback in ("127.0.0.1", "::1", "localhost"):
        check_bind(Settings(http_host=loopback, http_port=0))


@pytest.mark.parametrize("path", ["/sse", "/messages", "/messages/", "/", "/mcp/", "/MCP", "/docs"])
async def test_t23_there_is_no_older_transport(path: str) -> None:
    async with http() as client:
        assert (await client.get(path, authorization=f"Bearer {KEY}")).status_code == 404
