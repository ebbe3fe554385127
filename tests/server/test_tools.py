"""Tools over every transport, in both protocol eras."""

from __future__ import annotations

import json
import socket
from functools import partial
from typing import cast

import anyio
import mcp_types as types
import pytest
from mcp import MCPError
from mcp.client import Client

from mcp_spaces.core.context import Context
from mcp_spaces.server.http_protocol import bound
from tests.server.doors import Era, Transport, open_house
from tests.server.small_app import AWKWARD, AnyOutput, NoInput, caller, observing


def text_of(result: types.CallToolResult) -> str:
    (block,) = result.content
    assert isinstance(block, types.TextContent)
    return block.text


async def test_a_call_answers_text_that_equals_its_structured_content(transport: Transport, era: Era) -> None:
    async with open_house() as house, house.client(transport, era) as client:
        result = await client.call_tool("thing_echo", {"text": "hi", "times": 2})
        assert not result.is_error
        assert result.structured_content == {"text": "hihi"}
        assert json.loads(text_of(result)) == result.structured_content
        run = (result.meta or {})["mcp-spaces/run"]
        assert run["id"].startswith("run_")
        assert run["receipt"]


async def test_the_list_holds_exactly_what_the_caller_may_call(transport: Transport, era: Era) -> None:
    async with open_house() as house, house.client(transport, era) as client:
        first, second = await client.list_tools(), await client.list_tools()
        names = [tool.name for tool in first.tools]
        assert names == [tool.name for tool in second.tools]
        assert "thing_echo" in names
        assert "thing_govern" not in names  # the operator's
        assert "thing_unlisted" not in names  # reached through operation_call
        if era == "auto":
            assert (first.ttl_ms, first.cache_scope) == (0, "private")


async def test_a_tool_says_all_four_hints_and_its_limits_in_words() -> None:
    async with open_house() as house, house.client() as client:
        (echo,) = [tool for tool in (await client.list_tools()).tools if tool.name == "thing_echo"]
        assert echo.annotations == types.ToolAnnotations(
            read_only_hint=True, destructive_hint=False, idempotent_hint=True, open_world_hint=False
        )
        assert echo.output_schema is None
        assert echo.input_schema == {
            "type": "object",
            "properties": {
                "text": {"type": "string", "description": "What to say"},
                "times": {"type": "integer", "description": "How often (1–9, default 1)"},
                "mood": {"type": "string", "enum": ["calm", "loud"]},
            },
            "required": ["text"],
        }


@pytest.mark.parametrize("name", ["thing_nothing", "thing.echo", "thing_unlisted", "thing_govern", "", "x" * 999])
async def test_what_is_no_tool_of_the_caller_is_unknown(name: str, era: Era) -> None:
    async with open_house() as house, house.client(era=era) as client:
        with pytest.raises(MCPError) as refusal:
            await client.call_tool(name, {})
        assert refusal.value.error.code == types.INVALID_PARAMS
        assert refusal.value.error.message.startswith("Unknown tool")


async def test_who_calls_an_operation_that_is_no_tool_is_told_the_tool_that_calls_it(era: Era) -> None:
    async with open_house() as house, house.client(era=era) as client:
        with pytest.raises(MCPError, match=r"call operation_call with operation=thing\.unlisted$"):
            await client.call_tool("thing_unlisted", {})
        for hidden in ("thing_govern", "thing.unlisted"):
            with pytest.raises(MCPError, match=rf"Unknown tool: '{hidden}'$"):
                await client.call_tool(hidden, {})


async def test_the_operator_reaches_every_operation_by_its_name() -> None:
    async with open_house() as house, house.client(caller=caller("operator", operator=True)) as client:
        assert (await client.call_tool("thing_govern", {"text": "a"})).structured_content == {"text": "a"}
        assert (await client.call_tool("thing_unlisted", {"text": "b"})).structured_content == {"text": "b"}


async def test_an_operation_outside_the_scope_is_refused_with_a_hint_and_recorded() -> None:
    from mcp_spaces.core.scope import EVERYTHING

    narrowed = caller("narrow", scope=EVERYTHING.model_copy(update={"operations": ("space.*",)}))
    async with open_house() as house, house.client(caller=narrowed) as client:
        assert [tool.name for tool in (await client.list_tools()).tools] == ["space_list"]
        result = await client.call_tool("thing_echo", {"text": "a"})
        assert result.is_error
        assert (result.meta or {})["mcp-spaces/error"]["code"] == "denied"
        assert not house.app.bench.calls


async def test_an_error_is_text_with_the_next_step_and_a_code_for_programs(transport: Transport, era: Era) -> None:
    async with open_house() as house, house.client(transport, era) as client:
        result = await client.call_tool("thing_refuse", {})
        assert result.is_error
        assert result.structured_content is None
        assert text_of(result) == "No \\x1b[2Jshell here.\nRead files instead."
        assert (result.meta or {})["mcp-spaces/error"] == {
            "code": "denied",
            "message": "No \\x1b[2Jshell here.",
            "hint": "Read files instead.",
            "retryable": False,
            "details": {"rule": "shell.commands"},
        }


async def test_bad_arguments_are_an_error_result_that_names_them(transport: Transport, era: Era) -> None:
    async with open_house() as house, house.client(transport, era) as client:
        result = await client.call_tool("thing_echo", {"text": "a", "times": 10, "txet": "b"})
        assert result.is_error
        assert (result.meta or {})["mcp-spaces/error"]["code"] == "invalid_input"
        assert "times" in text_of(result)
        assert "txet is unknown" in text_of(result)


async def test_what_goes_wrong_inside_is_told_by_a_reference_alone(transport: Transport, era: Era) -> None:
    async with open_house() as house, house.client(transport, era) as client:
        result = await client.call_tool("thing_crash", {})
        assert result.is_error
        assert "hunter2" not in result.model_dump_json()
        assert (result.meta or {})["mcp-spaces/error"]["details"]["reference"] in text_of(result)


async def test_no_control_character_reaches_a_reader_of_the_text(transport: Transport, era: Era) -> None:
    async with open_house() as house, house.client(transport, era) as client:
        result = await client.call_tool("thing_awkward", {})
        text = text_of(result)
        assert all(character.isprintable() for character in text)
        assert "✓" in text
        assert (
            json.loads(text)
            == result.structured_content
            == {"text": AWKWARD, "anything": {"nothing": None, AWKWARD: 1}}
        )


@pytest.mark.parametrize("much", [{"characters": 90_000}, {"items": 9_000}, {"characters": 30_000, "items": 5_000}])
async def test_a_long_answer_keeps_head_and_tail_within_the_limit(much: dict[str, int]) -> None:
    async with open_house() as house, house.client() as client:
        result = await client.call_tool("thing_large", much)
        text = text_of(result)
        assert 5_000 < len(text) <= 20_000
        assert json.loads(text) == result.structured_content
        assert result.structured_content is not None
        assert result.structured_content["truncated"]["characters"] > 20_000
        assert "offset" in result.structured_content["truncated"]["rest"]
        items = result.structured_content["items"]
        if "items" in much:
            assert items[0] == "item 0"
            assert items[-1] == f"item {much['items'] - 1}"
            assert any("items left out" in item for item in items)
        if "characters" in much:
            assert "characters left out" in result.structured_content["text"]


async def test_a_list_of_objects_stays_one_when_it_is_cut() -> None:
    rows = [{"id": f"run_{number}", "text": "x" * 300} for number in range(100)]

    async def page(_: Context, __: NoInput) -> AnyOutput:
        return AnyOutput.model_validate({"runs": rows, "next_cursor": "100"})

    listing = observing("thing.page", page, NoInput, AnyOutput)
    async with open_house(operations=[listing]) as house:
        async with house.client() as client:
            cut = (await client.call_tool("thing_page", {})).structured_content
        async with house.client(caller=caller("boss", operator=True)) as client:
            whole = (await client.call_tool("thing_page", {})).structured_content
    assert whole == {"runs": rows, "next_cursor": "100"}
    assert cut is not None
    assert cut["runs"] == rows[: len(cut["runs"])]
    assert cut["items_left_out"] == {"runs": 100 - len(cut["runs"])}
    # It would lead past what was left out.
    assert "next_cursor" not in cut


async def test_an_answer_within_the_limit_is_whole() -> None:
    async with open_house() as house, house.client() as client:
        result = await client.call_tool("thing_large", {"characters": 19_900})
        assert result.structured_content == {"text": "x" * 19_900, "items": []}


async def test_progress_grows_even_where_the_operation_repeats_itself(transport: Transport, era: Era) -> None:
    heard: list[tuple[float, str | None]] = []

    async def hear(progress: float, total: float | None, message: str | None) -> None:
        heard.append((progress, message))

    async with open_house() as house, house.client(transport, era) as client:
        await client.call_tool("thing_report", {}, progress_callback=hear)
    values = [done for done, _ in heard]
    assert values == sorted(set(values))
    assert [message for _, message in heard] == [f"step {step}\\x1b[31m" for step in (1, 2, 2, 3)]


@pytest.mark.parametrize("transport", ["shim", "http"])  # in process there is no wire that could fall silent
async def test_a_silent_call_has_a_heartbeat(transport: Transport, era: Era) -> None:
    beats = anyio.Event()

    async def hear(progress: float, total: float | None, message: str | None) -> None:
        if message and message.startswith("Running for"):
            beats.set()

    async with (
        open_house(heartbeat_s=0.05) as house,
        house.client(transport, era) as client,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(partial(client.call_tool, "thing_wait", {}, progress_callback=hear))
        with anyio.fail_after(10):
            await beats.wait()
        house.app.bench.go_on.set()


async def test_a_cancelled_request_cancels_the_operation(transport: Transport, era: Era) -> None:
    async with open_house() as house, house.client(transport, era) as client:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(client.call_tool, "thing_wait", {})
            with anyio.fail_after(10):
                await house.app.bench.waiting.wait()
            tasks.cancel_scope.cancel()
        with anyio.fail_after(10):
            await house.app.bench.cancelled.wait()
        assert (await client.call_tool("thing_echo", {"text": "still here"})).structured_content


async def test_a_client_that_leaves_cancels_its_calls() -> None:
    async with open_house() as house:
        async with anyio.create_task_group() as tasks:

            async def call(client: Client) -> None:
                await client.call_tool("thing_wait", {})

            async with house.client("shim") as client:
                tasks.start_soon(call, client)
                with anyio.fail_after(10):
                    await house.app.bench.waiting.wait()
                tasks.cancel_scope.cancel()
        with anyio.fail_after(10):
            await house.app.bench.cancelled.wait()


async def test_the_same_idempotency_key_gives_the_same_answer_once(transport: Transport, era: Era) -> None:
    async with open_house() as house, house.client(transport, era) as client:
        meta = cast(types.RequestParamsMeta, {"mcp-spaces/idempotency-key": "k1"})
        first = await client.call_tool("thing_echo", {"text": "a"}, meta=meta)
        again = await client.call_tool("thing_echo", {"text": "a"}, meta=meta)
        assert first.structured_content == again.structured_content == {"text": "a"}
        assert house.app.bench.calls == ["echo"]
        other = await client.call_tool("thing_echo", {"text": "b"}, meta=meta)
        assert (other.meta or {})["mcp-spaces/error"]["code"] == "conflict"


async def test_calls_above_the_limit_of_one_connection_are_refused(transport: Transport, era: Era) -> None:
    async with open_house(agent_calls_max=1) as house, house.client(transport, era) as client:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(client.call_tool, "thing_wait", {})
            with anyio.fail_after(10):
                await house.app.bench.waiting.wait()
            second = await client.call_tool("thing_echo", {"text": "a"})
            assert (second.meta or {})["mcp-spaces/error"]["code"] == "quota"
            house.app.bench.go_on.set()
        third = await client.call_tool("thing_echo", {"text": "a"})
        assert not third.is_error


async def test_instructions_are_short_enough_for_a_system_prompt(era: Era) -> None:
    async with open_house() as house, house.client(era=era) as client:
        assert client.instructions is not None
        assert client.instructions.startswith("mcp-spaces gives you a place to work")
        assert len(client.instructions) <= 1_500


def test_an_answer_over_http_does_not_wait_for_the_clients_acknowledgement() -> None:
    """With Nagle's algorithm each would, for 40 ms."""
    with bound("127.0.0.1", 0) as listener, socket.create_connection(listener.getsockname()):
        accepted, _ = listener.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
