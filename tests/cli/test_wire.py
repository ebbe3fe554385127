"""MCP as the commands read it, from a daemon that may be another version, or no daemon at all."""

from __future__ import annotations

import json
import socket
from typing import Any

import pytest

from mcp_spaces.cli.local import connected
from mcp_spaces.cli.remote import _messages, _streamed, _whole
from mcp_spaces.cli.wire import PIN, Answer, NoDaemon, Refusal, Request, answer_of, progress_of
from tests.security.app import short_folder

ERROR = {"code": "denied", "message": "No.", "hint": "Ask.", "retryable": True, "details": {"rule": "r"}}


def result(**more: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 1, "result": more}


def test_an_answer_is_its_structure_or_else_its_text() -> None:
    text = [{"type": "text", "text": "a"}, {"type": "image", "data": ""}, {"type": "text", "text": "b"}, 7]
    run = {"mcp-spaces/run": {"id": "run_1"}}
    assert answer_of(result(structuredContent={"a": 1}, content=text, _meta=run)) == Answer({"a": 1}, "run_1")
    assert answer_of(result(content=text)) == Answer("a\n[image]\nb")
    assert answer_of(result(content=text, _meta={"mcp-spaces/run": {"id": 7}})).run_id is None


def test_a_refusal_keeps_code_hint_and_details() -> None:
    with pytest.raises(Refusal) as refused:
        answer_of(result(isError=True, content=[], _meta={"mcp-spaces/error": ERROR}))
    said = refused.value
    told = {"code": said.code, "message": said.message, "hint": said.hint, "retryable": said.retryable}
    assert {**told, "details": said.details} == ERROR


def test_only_what_is_said_to_be_worth_another_try_is() -> None:
    for error in ({**ERROR, "retryable": "yes"}, {"code": "busy", "message": "No."}):
        with pytest.raises(Refusal) as refused:
            answer_of(result(isError=True, content=[], _meta={"mcp-spaces/error": error}))
        assert not refused.value.retryable


@pytest.mark.parametrize("beside", [{}, {"mcp-spaces/error": {"code": 7, "message": "x"}}, {"mcp-spaces/error": "x"}])
def test_a_refusal_of_another_kind_is_its_text(beside: dict[str, Any]) -> None:
    with pytest.raises(Refusal, match="Just no") as refused:
        answer_of(result(isError=True, content=[{"type": "text", "text": "Just no."}], _meta=beside))
    assert (refused.value.code, refused.value.retryable, refused.value.details) == ("internal", False, {})


@pytest.mark.parametrize(("number", "code"), [(-32001, "unauthenticated"), (-32600, "protocol")])
def test_an_error_of_the_protocol_is_a_refusal_too(number: int, code: str) -> None:
    with pytest.raises(Refusal) as refused:
        answer_of({"id": 1, "error": {"code": number, "message": "No."}})
    assert (refused.value.code, refused.value.message, refused.value.details) == (code, "No.", {"rpc": number})


def test_a_daemon_that_stopped_is_no_daemon() -> None:
    with pytest.raises(NoDaemon):
        answer_of({"id": 1, "error": {"code": -32000, "message": "Connection closed"}})


@pytest.mark.parametrize("message", [{}, {"id": 1}, {"result": "text"}, {"error": {"code": 1}}])
def test_what_is_no_mcp_is_said(message: dict[str, Any]) -> None:
    with pytest.raises(Refusal) as refused:
        answer_of(message)
    assert refused.value.code == "protocol"


def test_progress_is_told_and_other_messages_are_passed_over() -> None:
    told: list[tuple[float, float | None, str]] = []

    def tell(done: float, total: float | None, message: str) -> None:
        told.append((done, total, message))

    for params in (
        {"progress": 1, "total": 2, "message": "half"},
        {"progress": 0.5},
        {"progress": 1, "total": "2"},
        {"progress": "1"},
        {},
    ):
        progress_of({"method": "notifications/progress", "params": params}, tell)
    progress_of({"method": "notifications/message", "params": {"progress": 1}}, tell)
    assert told == [(1, 2, "half"), (0.5, None, ""), (1, None, "")]


def test_the_pin_stands_beside_the_arguments_and_only_where_one_was_typed() -> None:
    asked = json.loads(Request("vault_get", {"path": "a"}, pin="1234").body())
    assert asked["params"]["_meta"][PIN] == "1234" and asked["params"]["arguments"] == {"path": "a"}
    assert PIN not in json.loads(Request("vault_get", {}).body())["params"]["_meta"]


def test_a_command_line_that_is_not_utf_8_is_refused() -> None:
    with pytest.raises(Refusal) as refused:
        Request("thing_echo", {"text": "\udcff"}).body()
    assert refused.value.code == "invalid_input"


def test_events_are_read_whole_and_the_answer_ends_them() -> None:
    answer = json.dumps(result(structuredContent={"a": 1}))
    first, second = answer[:17], answer[17:]
    progress = '{"method":"notifications/progress","params":{"progress":1}}'
    lines = [
        ": hello",
        "event: message",
        f"data: {progress}",
        "",
        "",
        "id: 1",
        f"data:{first}",
        f"data: {second}",
        "",
        "data: {",
    ]
    told: list[float] = []
    with pytest.raises(json.JSONDecodeError):
        list(_messages(iter(["data: {", ""])))
    assert _streamed(_messages(iter(lines)), lambda done, *_: told.append(done)) == Answer({"a": 1})
    assert told == [1]
    with pytest.raises(NoDaemon):
        _streamed(_messages(iter(lines[:4])), lambda *_: None)


@pytest.mark.parametrize(
    ("body", "code", "said"),
    [
        (b'{"error":"unauthenticated","message":"No key."}', "unauthenticated", "No key."),
        (b'{"error":7,"message":"x"}', "internal", "HTTP 404"),
        (b"<html>", "internal", "HTTP 404"),
        (b"[]", "internal", "HTTP 404"),
    ],
)
def test_what_a_server_answers_that_is_no_mcp_is_told_by_its_number(body: bytes, code: str, said: str) -> None:
    with pytest.raises(Refusal) as refused:
        _whole(404, body)
    assert refused.value.code == code
    assert said in refused.value.message


def test_where_nobody_listens_any_more_there_is_no_connection_and_what_is_no_socket_is_said() -> None:
    with short_folder() as folder:
        path = folder / "operator.sock"
        assert connected(str(path)) is None
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
            listener.listen()
            connection = connected(str(path))
            assert connection is not None
            connection.close()
        assert connected(str(path)) is None
        with pytest.raises(NoDaemon, match="too long"):
            connected(str(folder / ("x" * 200)))
