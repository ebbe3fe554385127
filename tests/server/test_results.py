"""What becomes of an answer on its way to a client: how much of it, and in which characters."""

from __future__ import annotations

import json
from typing import Any, cast

import mcp_types as types
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mcp import MCPError

from mcp_spaces.core.caller import Caller
from mcp_spaces.core.context import Context
from mcp_spaces.core.operation import AnyOperation
from mcp_spaces.errors import Busy, Denied, NotFound
from mcp_spaces.server.results import described, failure, rendered
from tests.server.doors import Era, open_house
from tests.server.small_app import AnyOutput, NoInput, observing

LIMIT = 1_000
text = st.text(st.characters(exclude_categories=["Cs"]), max_size=10) | st.sampled_from(
    ["x" * 900, "é" * 5_000, "\x1b" * 700]
)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | text,
    lambda inner: st.lists(inner, max_size=9) | st.dictionaries(text, inner, max_size=8),
    max_leaves=12,
)


@settings(max_examples=50)
@given(st.dictionaries(st.sampled_from("abcdef"), values))
def test_an_answer_is_json_of_printable_characters_within_its_limit(content: dict[str, Any]) -> None:
    structured, said = rendered(AnyOutput.model_validate(content), characters_max=LIMIT)
    assert len(said) <= LIMIT
    assert json.loads(said) == structured
    said.encode("utf-8")
    assert not any(character in said for character in "\x1b\x7f\x9b\u202e\u2028")
    everything, all_said = rendered(AnyOutput.model_validate(content), characters_max=None)
    if len(all_said) <= LIMIT:
        assert structured == everything
    else:
        assert structured["truncated"]["characters"] == len(all_said)
        assert structured["truncated"]["limit"] == LIMIT


def test_no_answer_is_a_character_longer_than_its_limit() -> None:
    for length in range(80):
        items = ["x" * length] * 300
        assert len(rendered(AnyOutput.model_validate({"items": items}), characters_max=LIMIT)[1]) <= LIMIT


def test_what_is_left_out_of_a_text_is_counted_between_its_ends() -> None:
    long = "".join(chr(0x61 + number % 26) for number in range(5_000))
    cut = rendered(AnyOutput.model_validate({"text": long, "short": "as it is"}), characters_max=LIMIT)[0]
    head, marker, tail = cut["text"].split("\n")
    left_out = int(marker.removeprefix("[… ").removesuffix(" characters left out …]").replace(",", ""))
    assert long.startswith(head) and long.endswith(tail) and len(head) == len(tail) > 100
    assert len(head) + left_out + len(tail) == len(long)
    assert cut["short"] == "as it is"


def test_what_is_left_out_of_a_list_is_counted_between_its_ends() -> None:
    cut = rendered(AnyOutput.model_validate({"items": list(range(5_000))}), characters_max=LIMIT)[0]["items"]
    (at,) = [place for place, item in enumerate(cut) if isinstance(item, str)]
    head, tail = cut[:at], cut[at + 1 :]
    assert head == list(range(len(head))) and tail == list(range(5_000 - len(tail), 5_000))
    assert cut[at] == f"[… {5_000 - len(head) - len(tail):,} items left out …]"
    assert 0 <= len(head) - len(tail) <= 1 and len(tail) > 1


def test_of_objects_within_objects_the_count_stands_beside_them() -> None:
    runs = [{"id": number, "text": "x" * 40} for number in range(100)]
    page = {"runs": runs, "next_cursor": "c", "next_events": 9}
    cut = rendered(AnyOutput.model_validate({"page": page}), characters_max=LIMIT)[0]
    shown = cut["page"]["runs"]
    assert shown == runs[: len(shown)]
    assert cut["page"] == {"runs": shown, "items_left_out": {"runs": 100 - len(shown)}}


def test_where_nothing_can_give_way_only_the_note_is_left() -> None:
    cut, said = rendered(
        AnyOutput.model_validate({f"name{number:04}": 1 for number in range(500)}), characters_max=LIMIT
    )
    assert set(cut) == {"truncated"} and "limit" in said


async def test_half_a_surrogate_pair_becomes_a_question_mark_in_answers_and_errors(era: Era) -> None:
    async def cut(_: Context, __: NoInput) -> AnyOutput:
        return AnyOutput.model_validate({"a": [{"x\udcff.txt": "\udcff é"}]})

    async def refuse(_: Context, __: NoInput) -> AnyOutput:
        raise NotFound("No button \ud83d.", hint="")

    operations = [
        observing("thing.cut", cut, NoInput, AnyOutput),
        observing("thing.refuse", refuse, NoInput, AnyOutput),
    ]
    async with open_house(operations=operations) as house, house.client("shim", era) as client:
        answer = await client.call_tool("thing_cut", {})
        assert answer.structured_content == {"a": [{"x?.txt": "? é"}]}
        refused = await client.call_tool("thing_refuse", {})
        assert (refused.meta or {})["mcp-spaces/error"]["code"] == "not_found"
        assert "No button" in (refused.meta or {})["mcp-spaces/error"]["message"]


def test_an_error_is_told_without_what_a_terminal_would_obey() -> None:
    error = Denied("No\x1b[2J.", hint="Ask\u202e.", rule="a\x07")
    assert described(error) == {
        "code": "denied",
        "message": "No\\x1b[2J.",
        "hint": "Ask\\u202e.",
        "retryable": False,
        "details": {"rule": "a\\x07"},
    }
    error.run_id = "run_1"
    told = failure(error)
    assert (told.is_error, (told.meta or {})["mcp-spaces/run"]) == (True, {"id": "run_1"})
    bare = failure(Busy("Locked.", hint=""))
    assert "mcp-spaces/run" not in (bare.meta or {})
    assert bare.content == [types.TextContent(type="text", text="Locked.")]
    assert described(Busy("Locked.", hint=""))["retryable"] is True


@pytest.mark.parametrize("name", ["mcp-spaces/idempotency-key", "mcp-spaces/pin"])
@pytest.mark.parametrize("value", [7, ["k"], {"k": 1}])
async def test_what_stands_beside_a_call_has_to_be_text(name: str, value: object) -> None:
    async with open_house() as house, house.client() as client:
        meta = cast(types.RequestParamsMeta, {name: value})
        answer = await client.call_tool("thing_echo", {"text": "a"}, meta=meta)
        assert (answer.meta or {})["mcp-spaces/error"]["code"] == "invalid_input"
        assert house.app.bench.calls == []


@pytest.mark.parametrize(
    ("error", "code"), [(RuntimeError("hunter2"), types.INTERNAL_ERROR), (NotFound("None.", hint="Ask."), None)]
)
async def test_what_goes_wrong_where_there_is_no_error_result_is_told_without_its_cause(
    error: Exception, code: int | None, era: Era
) -> None:
    async def listing(_: Context, __: NoInput) -> AnyOutput:
        return AnyOutput()

    async with open_house(operations=[observing("space.list", listing, NoInput, AnyOutput)]) as house:

        def permitted(who: Caller) -> tuple[AnyOperation, ...]:
            raise error

        house.app.permitted = permitted  # type: ignore[method-assign]
        async with house.client(era=era) as client:
            with pytest.raises(MCPError) as refused:
                await client.list_tools()
    assert refused.value.error.code == (types.INVALID_PARAMS if code is None else code)
    assert "hunter2" not in str(refused.value.error)
    assert refused.value.error.message.startswith("None. Ask." if code is None else "Something went wrong inside")
