"""Resources over every transport, and the strict grammar of their URIs."""

from __future__ import annotations

import json
from typing import Any

import mcp_types as types
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mcp import MCPError

from mcp_spaces.errors import Ambiguous, Busy, Denied, Internal, InvalidInput, QuotaExceeded, SpacesError
from mcp_spaces.server.resources import refused
from mcp_spaces.server.uris import ContextUri, RunUri, StorageUri, parse
from tests.server.doors import Era, Transport, open_house
from tests.server.small_app import RUN_ID, SPACE_ID

CONTEXT = f"space://{SPACE_ID}/context"


async def read(client: Any, uri: str) -> types.TextResourceContents | types.BlobResourceContents:
    (content,) = (await client.read_resource(uri)).contents
    found: types.TextResourceContents | types.BlobResourceContents = content
    return found


async def test_each_visible_space_lists_its_context_page_by_page(transport: Transport, era: Era) -> None:
    async with open_house() as house, house.client(transport, era) as client:
        first = await client.list_resources()
        assert [resource.uri for resource in first.resources] == [CONTEXT]
        assert (await client.list_resources(cursor=first.next_cursor)).resources == []
        templates = (await client.list_resource_templates()).resource_templates
        assert [template.uri_template for template in templates] == [
            "space://{space}/context{?topic,detail}",
            "space://{space}/runtimes/{runtime}/context{?topic,detail}",
            "run://{run}",
            "storage://{namespace}/{+path}",
        ]


async def test_a_read_is_the_call_of_an_operation(transport: Transport, era: Era) -> None:
    async with open_house() as house, house.client(transport, era) as client:
        context = await read(client, "space://work/runtimes/dev/context?topic=rules&detail=full")
        assert isinstance(context, types.TextResourceContents)
        assert json.loads(context.text) == {"space": {"id": SPACE_ID}, "topic": "rules", "runtime": "dev"}
        run = await read(client, f"run://{RUN_ID}")
        assert isinstance(run, types.TextResourceContents)
        assert json.loads(run.text) == {"id": RUN_ID}
        note = await read(client, "storage://own/notes/today.md")
        assert note == types.TextResourceContents(
            uri="storage://own/notes/today.md", mime_type="text/markdown", text="# Today"
        )
        picture = await read(client, "storage://own/a%20b.png")
        assert picture == types.BlobResourceContents(
            uri="storage://own/a%20b.png", mime_type="image/png", blob="iVBORw=="
        )


@pytest.mark.parametrize(
    "uri",
    [
        "space://other/context",
        f"run://run_{'c' * 26}",
        "storage://own/absent",
        "space://work/context/../../other/context",
        "nothing://at/all",
    ],
)
async def test_absent_invisible_and_impossible_are_one_answer(uri: str, era: Era) -> None:
    async with open_house() as house, house.client(era=era) as client:
        with pytest.raises(MCPError) as refusal:
            await client.read_resource(uri)
        assert refusal.value.error == types.ErrorData(
            code=types.INVALID_PARAMS, message="Resource not found", data={"uri": uri}
        )


def test_a_uri_is_parsed_into_what_it_names() -> None:
    assert parse("space://work/context") == ContextUri("work")
    assert parse("space://work/context?detail=full") == ContextUri("work", detail="full")
    assert parse("space://work/runtimes/dev/context?topic=space&detail=compact") == ContextUri(
        "work", "dev", "space", "compact"
    )
    assert parse(f"run://{RUN_ID}") == RunUri(RUN_ID)
    assert parse("storage://own/a/b%20c.txt") == StorageUri("own", "a/b c.txt")
    assert parse("storage://own/caf%C3%A9") == StorageUri("own", "café")


# Threat T11: each of these could be read as something else by another parser.
@pytest.mark.parametrize(
    "uri",
    [
        "space://B/../A/context",
        "space://A/context/",
        "space://A//context",
        "space://A/./context",
        "space://A%2fcontext",
        "space://%41/context",
        "space://A/%63ontext",
        "SPACE://A/context",
        "Space://A/context",
        "space:/A/context",
        "space:///context",
        "space://user@A/context",
        "space://A:80/context",
        "space://A/context#x",
        "space://A/context?",
        "space://A/context?topic=a&topic=b",
        "space://A/context?unknown=a",
        "space://A/context?topic=a%2e",
        " space://A/context",
        "space://A/context\n",
        "space://A\x00/context",
        "space://../context",
        "space://А/context",
        f"run://{RUN_ID.upper()}",
        f"run://{RUN_ID}/",
        "storage://own/",
        "storage://own/../secret",
        "storage://own/a/../b",
        "storage://own/a//b",
        "storage://own/./a",
        "storage://own/%2e%2e/a",
        "storage://own/a%2Fb",
        "storage://own/%61",
        "storage://own/%e9",
        "storage://own/a%00b",
        "storage://own/a%1bb",
        "storage://own/a b",
        "storage://own/a?b",
        "storage://own/a%",
        "storage://own/" + "a" * 3_000,
    ],
)
def test_a_trick_names_nothing(uri: str) -> None:
    assert parse(uri) is None


@given(st.text(alphabet="abAZ0:/.%2eEfF?#&=_-@ é\x00\n\\", max_size=40))
def test_no_text_but_the_canonical_one_names_a_stored_file(text: str) -> None:
    match parse(f"storage://own/{text}"):
        case StorageUri("own", path):
            assert ".." not in path.split("/")
            assert path.isprintable()
        case None:
            pass
        case other:
            raise AssertionError(other)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InvalidInput("a", hint=""), types.INVALID_PARAMS),
        (Ambiguous("a", hint=""), types.INVALID_PARAMS),
        (QuotaExceeded("a", hint=""), types.INVALID_REQUEST),
        (Denied("a", hint="", rule="r"), types.INVALID_REQUEST),
        (Busy("a", hint=""), types.INTERNAL_ERROR),
        (Internal("a", hint="", reference="err_1"), types.INTERNAL_ERROR),
    ],
)
def test_whose_fault_an_error_is_can_be_told_by_its_number(error: SpacesError, code: int) -> None:
    assert refused(error).error.code == code
