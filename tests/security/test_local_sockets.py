"""Who may use the local sockets, and as whom: threats T20 and T22, and what bad input does there."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import stat
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from mcp_spaces import places
from mcp_spaces.core.operation import Audience
from mcp_spaces.errors import SpacesError, WrongState
from mcp_spaces.server import shim
from mcp_spaces.server.unix import make_private, turn_away
from tests.server.doors import ROOT, House, open_house
from tests.server.small_app import KEY, OPERATIONS

PATIENCE_S = 20
HELLO = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}},
}
ENVELOPE = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
}


class Line:
    """One raw connection to a local socket."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def send(self, *lines: bytes) -> None:
        self._writer.write(b"".join(line + b"\n" for line in lines))
        await self._writer.drain()

    async def answer(self) -> Any:
        with anyio.fail_after(PATIENCE_S):
            line = await self._reader.readline()
        return json.loads(line) if line else None

    async def ask(self, message: dict[str, Any]) -> Any:
        await self.send(json.dumps(message).encode())
        return await self.answer()

    async def call(self, tool: str, arguments: dict[str, Any] | None = None) -> Any:
        """A call of 2026-07-28, which needs no handshake."""
        params = {"name": tool, "arguments": arguments or {}, "_meta": ENVELOPE}
        return await self.ask({"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": params})


@asynccontextmanager
async def line_to(path: str) -> AsyncIterator[Line]:
    reader, writer = await asyncio.open_unix_connection(path, limit=1 << 25)
    try:
        yield Line(reader, writer)
    finally:
        writer.close()


def agent_socket(house: House) -> str:
    return places.agent_socket(str(house.settings.state_dir))


def operator_socket(house: House) -> str:
    return places.operator_socket(str(house.settings.state_dir))


# ------------------------------------------------------------------------------------------------------- T20


@pytest.mark.parametrize("operation", [one for one in OPERATIONS if one.audience is Audience.OPERATOR])
async def test_t20_no_operation_of_the_operator_exists_on_the_agents_socket(operation: Any) -> None:
    async with open_house() as house:
        async with line_to(agent_socket(house)) as agent:
            refused = await agent.call(operation.tool, {"text": "a"})
            unknown = await agent.call("thing_nonsense", {"text": "a"})
            assert refused["error"]["message"].replace(operation.tool, "X") == unknown["error"]["message"].replace(
                "thing_nonsense", "X"
            )
        async with line_to(operator_socket(house)) as operator:
            assert "result" in await operator.call(operation.tool, {"text": "a"})


async def test_t20_a_key_on_the_agents_socket_gives_its_own_principal() -> None:
    async with open_house() as house:
        async with line_to(agent_socket(house)) as agent:
            await agent.send(b'{"mcp-spaces":1,"key":"%s"}' % KEY.encode())
            assert "result" in await agent.call("thing_echo", {"text": "a"})
        rows = house.app.pipeline._database.read("SELECT principal_id FROM runs")
        assert [row["principal_id"] for row in rows] == ["pr_key"]


@pytest.mark.parametrize(
    "preamble",
    [
        b'{"mcp-spaces":1,"key":"wrong"}',
        b'{"mcp-spaces":2,"key":"%s"}' % KEY.encode(),
        b'{"mcp-spaces":1,"key":"%s","operator":true}' % KEY.encode(),
        b'{"mcp-spaces":1,"key":"wrong","key":"%s"}' % KEY.encode(),
        b'{"mcp-spaces":1}',
        b'{"mcp-spaces":',
    ],
)
async def test_t20_a_wrong_key_is_told_so_and_serves_nothing(preamble: bytes) -> None:
    async with open_house() as house, line_to(agent_socket(house)) as agent:
        await agent.send(preamble)
        refused = await agent.ask(HELLO)
        assert (refused["id"], refused["error"]["code"]) == (1, -32001)
        assert KEY not in json.dumps(refused)
        assert await agent.answer() is None


async def test_t20_a_key_turns_nobody_into_the_operator() -> None:
    async with open_house() as house, line_to(operator_socket(house)) as line:
        await line.send(b'{"mcp-spaces":1,"key":"%s"}' % KEY.encode())
        assert (await line.ask(HELLO))["error"]["code"] == -32001


async def test_t20_a_revoked_key_closes_its_connection_and_no_other() -> None:
    async with open_house() as house, line_to(agent_socket(house)) as keyed, line_to(agent_socket(house)) as local:
        await keyed.send(b'{"mcp-spaces":1,"key":"%s"}' % KEY.encode())
        assert "result" in await keyed.call("thing_echo", {"text": "a"})
        assert "result" in await local.call("thing_echo", {"text": "a"})
        with anyio.fail_after(PATIENCE_S):
            await house.app.revoke(KEY)
            assert await keyed.answer() is None
        assert "result" in await local.call("thing_echo", {"text": "b"})


# ------------------------------------------------------------------------------------------------------- T22


async def test_t22_directory_and_sockets_are_this_users_alone() -> None:
    async with open_house() as house:
        state = house.settings.state_dir
        assert stat.S_IMODE(state.stat().st_mode) == 0o700
        for path in (agent_socket(house), operator_socket(house)):
            assert stat.S_IMODE(os.stat(path).st_mode) == 0o600  # noqa: PTH116 - one call, not worth a thread


@pytest.mark.parametrize("mode", [0o755, 0o770, 0o701, 0o710])
def test_t22_a_directory_that_others_may_enter_is_refused(tmp_path: Path, mode: int) -> None:
    folder = tmp_path / "state"
    folder.mkdir()
    folder.chmod(mode)
    with pytest.raises(WrongState) as refusal:
        make_private(folder)
    assert refusal.value.hint == f"Run: chmod 700 {folder}"


def test_t22_a_link_or_file_in_place_of_the_directory_is_refused(tmp_path: Path) -> None:
    real, link, file = tmp_path / "real", tmp_path / "link", tmp_path / "file"
    make_private(real)
    link.symlink_to(real)
    file.touch()
    for path in (link, file):
        with pytest.raises(SpacesError):
            make_private(path)


async def test_t22_another_user_is_refused_even_with_the_directory_open() -> None:
    connect = """
import os, socket, sys
os.setuid(65534)
line = socket.socket(socket.AF_UNIX)
line.connect(sys.argv[1])
try:
    line.sendall(sys.argv[2].encode() + b"\\n")
    print(len(line.recv(1000)))
except ConnectionError:
    print(0)
"""
    async with open_house() as house:
        path = agent_socket(house)
        for opened, mode in (
            (house.settings.state_dir.parent, 0o755),
            (house.settings.state_dir, 0o755),
            (path, 0o666),
        ):
            os.chmod(opened, mode)  # noqa: PTH101 - a path of either kind
        other = await anyio.run_process([sys.executable, "-c", connect, path, json.dumps(HELLO)], check=False)
        # Only root can become somebody else; others fail to, and have shown nothing.
        assert other.stdout.strip() == (b"0" if os.geteuid() == 0 else b""), other.stderr


# ---------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b"{", -32700),
        (b"nonsense", -32700),
        (b"\xff\xfe", -32700),
        (b"[]", -32600),
        (b'"text"', -32600),
        (b'{"jsonrpc":"1.0","id":5,"method":"ping"}', -32600),
        (b'{"jsonrpc":"2.0","id":5,"method":"tools/list","params":{"a":1,"a":2}}', -32700),
        (b'{"jsonrpc":"2.0","id":5,"method":"tools/list","params":{"a":NaN}}', -32700),
        (b'{"jsonrpc":"2.0","id":5,"method":"tools/list","params":{"a":"\\udc00"}}', -32700),
        (b'{"jsonrpc":"2.0","id":5,"method":"x","params":{"a":' + b"[" * 50_000 + b"]" * 50_000 + b"}}", -32700),
    ],
    ids=range(10),
)
async def test_t13_a_line_that_is_no_message_is_answered_and_the_connection_lives(line: bytes, code: int) -> None:
    async with open_house() as house, line_to(agent_socket(house)) as agent:
        await agent.send(line)
        refused = await agent.answer()
        assert refused["error"]["code"] == code
        if b'"id":5' in line and b"[[" not in line:
            assert refused["id"] == 5
        assert "result" in await agent.ask(HELLO)


TOO_LONG = {
    "the id comes first": (b'{"jsonrpc":"2.0","id":7,"method":"x","params":{"id":1,"a":"%s"}}', 7),
    "the id comes last": (b'{"method":"x","params":{"id":1,"a":"%s"},"jsonrpc":"2.0","id":"seven"}', "seven"),
    "there is no id": (b'{"method":"x","params":{"id":1,"a":"%s"}}', None),
    "it is no message": (b"%s", None),
}


@pytest.mark.parametrize("kind", TOO_LONG)
@pytest.mark.parametrize("length", [(1 << 16) + 1, 1 << 20])
async def test_d09_a_line_above_the_limit_is_refused_and_the_calls_under_way_go_on(kind: str, length: int) -> None:
    line, request_id = TOO_LONG[kind]
    async with open_house(line_bytes_max=1 << 16) as house, line_to(agent_socket(house)) as agent:
        params = {"name": "thing_wait", "arguments": {}, "_meta": ENVELOPE}
        await agent.send(json.dumps({"jsonrpc": "2.0", "id": 40, "method": "tools/call", "params": params}).encode())
        await house.app.bench.waiting.wait()
        await agent.send(line % (b"x" * length))
        refused = await agent.answer()
        assert (refused["error"]["code"], refused.get("id")) == (-32600, request_id)
        house.app.bench.go_on.set()
        waited = await agent.answer()
        assert (waited["id"], waited["result"]["content"][0]["text"]) == (40, '{"text":"waited"}')


async def test_a_first_line_above_the_limit_is_refused_too() -> None:
    async with open_house(line_bytes_max=1 << 16) as house, line_to(agent_socket(house)) as agent:
        await agent.send(b"x" * (1 << 17))
        assert (await agent.answer())["error"]["code"] == -32600
        assert "result" in await agent.ask(HELLO)


async def test_d11_connections_above_the_limit_are_told_so() -> None:
    async with open_house(local_connections_max=1) as house, line_to(agent_socket(house)) as first:
        assert "result" in await first.ask(HELLO)
        async with line_to(agent_socket(house)) as second:
            assert "Too many" in (await second.answer())["error"]["message"]
            assert await second.answer() is None


async def test_d11_a_shim_passes_on_that_there_are_too_many() -> None:
    async with open_house(local_connections_max=1) as house, line_to(agent_socket(house)) as first:
        assert "result" in await first.ask(HELLO)
        server = house.shim()
        turned_away = await anyio.run_process(
            [server.command, *server.args], env=server.env, cwd=server.cwd, input=b"{}\n", check=False
        )
    assert b"Too many" in turned_away.stdout
    assert turned_away.returncode == 4


def test_d11_a_shim_whose_greeting_comes_too_late_still_reads_why() -> None:
    ours, daemons = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with ours, daemons:
        turn_away(daemons, "Too many.")
        shim.greet(ours, shim.GREETING)
        assert b"Too many." in ours.recv(4096)


async def test_a_message_of_several_megabytes_arrives_whole() -> None:
    async with open_house() as house, line_to(agent_socket(house)) as agent:
        # The largest write that operations advertise: 10 MiB as base64.
        refused = await agent.call("thing_echo", {"text": "x" * (14 << 20)})
        assert refused["result"]["isError"]
        assert "text" in refused["result"]["content"][0]["text"]


async def test_a_client_that_never_reads_holds_up_nobody() -> None:
    async with open_house() as house:
        silent = socket.socket(socket.AF_UNIX)
        silent.connect(agent_socket(house))
        silent.setblocking(False)
        params = {"name": "thing_large", "arguments": {"characters": 19_000}, "_meta": ENVELOPE}
        flood = b"".join(
            json.dumps({"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": params}).encode() + b"\n"
            for number in range(500)
        )
        with anyio.move_on_after(2):
            await asyncio.get_running_loop().sock_sendall(silent, flood)
        async with line_to(agent_socket(house)) as agent:
            assert "result" in await agent.call("thing_echo", {"text": "a"})
        silent.close()


def test_the_shim_says_what_is_wrong_with_a_key_that_cannot_be_one() -> None:
    for key in ('msp_"', "msp_\\", "two words", "msp_\n", "clé"):
        shim = subprocess.run(
            [sys.executable, "-m", "mcp_spaces", "stdio"],
            env={"PATH": os.environ["PATH"], "MCP_SPACES_KEY": key, "MCP_SPACES_STATE_DIR": "/nonexistent"},
            cwd=ROOT,
            input=b"",
            capture_output=True,
            timeout=20,
        )
        assert shim.returncode == 2
        assert shim.stderr.startswith(b"mcp-spaces: MCP_SPACES_KEY does not hold a key")
