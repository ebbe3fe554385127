"""Bodies of HTTP requests: those that two readers would read in two ways (N21, T13), and those that are too large (D09)."""

from __future__ import annotations

import pytest

from tests.security.http_edge import ERAS, http


async def test_n21_headers_that_contradict_the_body_are_refused() -> None:
    async with http() as client:
        echo = {"name": "thing_echo", "arguments": {"text": "a"}}
        answer = await client.post("tools/call", echo, mcp_name="thing_refuse")
        assert answer.json()["error"]["code"] == -32020
        answer = await client.post("tools/call", echo, mcp_method="tools/list")
        assert answer.json()["error"]["code"] == -32020
        assert not client.house.app.bench.calls


CALL = '{{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{{"name":"thing_echo","arguments":{}}}}}'
AMBIGUOUS = [
    CALL.format('{"text":"a","text":"b"}'),
    CALL.format('{"text":NaN}'),
    CALL.format('{"text":-Infinity}'),
    CALL.format('{"text":1e400}'),
    CALL.format('{"text":"\\ud800"}'),
    CALL.format('{"text":' + "9" * 5_000 + "}"),
    CALL.format('{"text":' + "[" * 100_000 + "]" * 100_000 + "}"),
    '{"jsonrpc":"2.0","id":1,"id":2,"method":"ping"}',
    "{",
    "",
]


@pytest.mark.parametrize("body", AMBIGUOUS, ids=range(len(AMBIGUOUS)))
@pytest.mark.parametrize("era", ERAS)
async def test_t13_json_that_two_parsers_could_read_differently_is_refused(body: str, era: str) -> None:
    async with http() as client:
        answer = await client.send(body.encode(), mcp_protocol_version=era)
        assert answer.status_code == 400
        assert answer.json()["error"]["code"] == -32700
        assert answer.json()["id"] in (7, None)
        assert not client.house.app.bench.calls


async def test_the_largest_write_that_operations_take_arrives() -> None:
    async with http() as client:
        # 10 MiB as base64; this operation takes less text, and says so.
        answer = await client.post("tools/call", {"name": "thing_echo", "arguments": {"text": "x" * (14 << 20)}})
        assert answer.status_code == 200
        assert "at most 100000 characters" in answer.text


@pytest.mark.parametrize("era", ERAS)
async def test_d09_a_huge_body_is_refused(era: str) -> None:
    async with http(http_body_bytes_max=4 << 20) as client:
        answer = await client.send(b'{"text":"' + b"x" * (5 << 20) + b'"}', mcp_protocol_version=era)
        assert answer.status_code == 413
        assert (await client.post("tools/list")).status_code == 200
