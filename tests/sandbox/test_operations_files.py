"""Files: ranges, edits, paths, and what policy says about where links lead."""

from __future__ import annotations

import base64
import hashlib
from contextlib import suppress
from functools import partial
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_spaces.core.answer import ANSWER_CHARACTERS
from mcp_spaces.errors import Conflict, Denied, InvalidInput, NotFound, WrongState
from mcp_spaces.sandbox.cutting import cost, ends_within, shares, start_within, text_within
from mcp_spaces.sandbox.edits import Edit, apply_edits
from mcp_spaces.sandbox.path_grammar import canonical_path
from tests.sandbox.app_fixture import Room

pytestmark = pytest.mark.anyio


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


async def test_what_is_written_is_read_with_its_hash(room: Room) -> None:
    written = await room.call("sandbox.write_file", path="/workspace/a/./b.txt", content="ünï\n")
    assert (written.path, written.size_bytes, written.sha256) == ("a/b.txt", 6, sha256("ünï\n".encode()))
    found = await room.call("sandbox.read_file", path="a/b.txt")
    assert (found.content, found.size_bytes, found.sha256) == ("ünï\n", 6, written.sha256)
    assert found.truncated is None and found.next_offset is None


async def test_binary_content_goes_both_ways_as_base64_and_is_refused_as_text(room: Room) -> None:
    content = bytes(range(256))
    await room.call("sandbox.write_file", path="b", content=base64.b64encode(content).decode(), encoding="base64")
    with pytest.raises(InvalidInput) as caught:
        await room.call("sandbox.read_file", path="b")
    assert "encoding=base64" in caught.value.hint
    found = await room.call("sandbox.read_file", path="b", encoding="base64")
    assert base64.b64decode(found.content) == content


async def test_a_long_file_is_read_to_its_end_in_answers_that_fit(room: Room) -> None:
    text = "".join(f'{n}: "ünï€" \\ \t\n' for n in range(6000))
    await room.call("sandbox.write_file", path="long.txt", content=text)
    read, offset = "", 0
    while offset is not None:
        part = await room.call("sandbox.read_file", path="long.txt", offset=offset)
        assert cost(part.content) <= ANSWER_CHARACTERS
        assert (part.next_offset is None) == (part.truncated is None)
        read, offset = read + part.content, part.next_offset
    assert read == text


async def test_a_byte_range_is_exactly_that_and_says_where_to_go_on(room: Room) -> None:
    await room.call("sandbox.write_file", path="a", content="0123456789")
    part = await room.call("sandbox.read_file", path="a", offset=2, limit=3)
    assert (part.content, part.next_offset, part.truncated, part.size_bytes) == ("234", 5, None, 10)
    assert (await room.call("sandbox.read_file", path="a", offset=10)).content == ""
    assert (await room.call("sandbox.read_file", path="a", offset=99)).next_offset is None


async def test_lines_are_read_by_number(room: Room) -> None:
    await room.call("sandbox.write_file", path="a", content="".join(f"line {n}\n" for n in range(1, 500_001)))
    part = await room.call("sandbox.read_file", path="a", start_line=400_000, lines=2)
    assert (part.content, part.start_line, part.next_line) == ("line 400000\nline 400001\n", 400_000, 400_002)
    last = await room.call("sandbox.read_file", path="a", start_line=500_000)
    assert (last.content, last.next_line) == ("line 500000\n", None)
    assert (await room.call("sandbox.read_file", path="a", start_line=500_001)).content == ""
    assert (await room.call("sandbox.read_file", path="a", lines=1)).content == "line 1\n"


async def test_writing_over_a_file_can_be_forbidden(room: Room) -> None:
    await room.call("sandbox.write_file", path="a", content="1")
    with pytest.raises(Conflict):
        await room.call("sandbox.write_file", path="a", content="2", overwrite=False)
    await room.call("sandbox.write_file", path="a", content="3")
    assert (await room.call("sandbox.read_file", path="a")).content == "3"


async def test_edits_apply_in_order_all_or_none(room: Room) -> None:
    await room.call("sandbox.write_file", path="a.py", content="a = 1\nb = 2\n")
    edited = await room.call(
        "sandbox.edit_file", path="a.py", edits=[{"old": "a = 1", "new": "c = 3"}, {"old": "c = 3", "new": "c = 4"}]
    )
    assert edited.edits_applied == 2 and edited.sha256 == sha256(b"c = 4\nb = 2\n")
    with pytest.raises(InvalidInput, match="Edit 2"):
        await room.call(
            "sandbox.edit_file", path="a.py", edits=[{"old": "c = 4", "new": "x"}, {"old": "nowhere", "new": "y"}]
        )
    assert (await room.call("sandbox.read_file", path="a.py")).content == "c = 4\nb = 2\n"


async def test_an_edit_of_what_changed_meanwhile_is_a_conflict(room: Room) -> None:
    await room.call("sandbox.write_file", path="a", content="one")
    with pytest.raises(Conflict):
        await room.call("sandbox.edit_file", path="a", edits=[{"old": "one", "new": "two"}], base_sha256="0" * 64)
    assert (await room.call("sandbox.read_file", path="a")).content == "one"


async def test_edits_of_one_file_that_come_at_once_all_apply(room: Room) -> None:
    await room.call("sandbox.write_file", path="a", content="".join(f"<{n}>" for n in range(20)))
    async with anyio.create_task_group() as group:
        for n in range(20):
            edits = [{"old": f"<{n}>", "new": f"({n})"}]
            group.start_soon(partial(room.call, "sandbox.edit_file", path="a", edits=edits))
    assert (await room.call("sandbox.read_file", path="a")).content == "".join(f"({n})" for n in range(20))


async def test_an_edit_says_how_often_its_text_is_there_or_what_is_closest() -> None:
    text = "def first():\n    return 1\n\ndef second():\n    return 1\n"
    with pytest.raises(InvalidInput, match="2 times"):
        await apply_edits(text, [Edit(old="return 1", new="")])
    with pytest.raises(InvalidInput, match="2 times"):
        await apply_edits("}\n}\n}\n", [Edit(old="}\n}\n", new="")])
    with pytest.raises(InvalidInput) as caught:
        await apply_edits(text, [Edit(old="def secnd():", new="")])
    assert "line 4" in caught.value.hint
    with pytest.raises(InvalidInput) as caught:
        await apply_edits(text, [Edit(old="\treturn 1\n\tpass", new="")])
    assert "Line 2" in caught.value.hint and "white space" in caught.value.hint


@pytest.mark.parametrize("wanted", ["line 1\n", "nowhere"])
async def test_others_are_served_while_a_large_text_is_edited(wanted: str) -> None:
    text = "".join(f"line {number}\n" for number in range(200_000))
    turns = 0

    async def serve() -> None:
        nonlocal turns
        while True:
            await anyio.lowlevel.checkpoint()
            turns += 1

    async with anyio.create_task_group() as group:
        group.start_soon(serve)
        await anyio.lowlevel.checkpoint()
        before = turns
        with suppress(InvalidInput):
            await apply_edits(text, [Edit(old=wanted, new="")])
        assert turns > before + 1
        group.cancel_scope.cancel()


@pytest.mark.parametrize(("ending", "other"), [("\r\n", "\n"), ("\n", "\r\n")])
async def test_an_edit_whose_lines_end_otherwise_is_told_how_the_files_end(ending: str, other: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        await apply_edits(f"a{ending}b{ending}", [Edit(old=f"a{other}b", new="")])
    assert repr(ending) in caught.value.hint


async def test_an_edit_based_on_another_content_is_a_conflict_whatever_its_texts(room: Room) -> None:
    await room.call("sandbox.write_file", path="a.txt", content="new\n")
    edits = [{"old": "old", "new": "x"}]
    with pytest.raises(Conflict):
        await room.call("sandbox.edit_file", path="a.txt", edits=edits, base_sha256=sha256(b"old\n"))


async def test_folders_are_deleted_only_when_that_is_asked_for(room: Room) -> None:
    await room.call("sandbox.write_file", path="build/a", content="")
    await room.call("sandbox.write_file", path="build/b", content="")
    with pytest.raises(WrongState):
        await room.call("sandbox.delete_file", path="build")
    assert (await room.call("sandbox.delete_file", path="build", recursive=True)).deleted == 3
    with pytest.raises(NotFound):
        await room.call("sandbox.delete_file", path="build/a")


@pytest.mark.parametrize("operation", ["sandbox.read_file", "sandbox.delete_file"])
async def test_who_takes_a_folder_for_a_file_is_told_how_to_list_pack_and_delete_it(room: Room, operation: str) -> None:
    await room.call("sandbox.write_file", path="build/a", content="")
    with pytest.raises(WrongState, match="build is a folder") as caught:
        await room.call(operation, path="build")
    for way in ("sandbox_list_files", "tar", "sandbox_delete_file with recursive"):
        assert way in caught.value.hint


async def test_no_file_is_made_where_a_folder_was_named(room: Room) -> None:
    with pytest.raises(InvalidInput, match="name the file in it"):
        await room.call("sandbox.write_file", path="/workspace/data/", content="x")
    made = {"type": "createFile", "path": "data/", "content": "x"}
    (event,) = (await room.call("sandbox.run_operations", operations=[made])).events
    assert event.type == "error" and "name the file in it" in event.details
    await room.call("sandbox.write_file", path="build/a", content="x")
    await room.call("sandbox.delete_file", path="build/", recursive=True)


async def test_policy_is_asked_again_where_a_link_leads(room: Room) -> None:
    await room.shell("printf secret > hidden && mkdir sub")
    sandbox = room.service.live(room.runtimes.of_space(room.space.id)[0].id)
    await sandbox.write_file("sub/prod.env", b"secret", overwrite=True)
    workspace = room.folder / "workspaces" / room.runtimes.of_space(room.space.id)[0].id
    (workspace / "innocent.txt").symlink_to("sub/prod.env")
    for path in ("sub/prod.env", "innocent.txt"):
        with pytest.raises(Denied) as caught:
            await room.call("sandbox.read_file", path=path)
        assert caught.value.rule == "files.blocked_paths"
        with pytest.raises(Denied):
            await room.call("sandbox.edit_file", path=path, edits=[{"old": "secret", "new": "x"}])


async def test_a_search_withholds_what_may_not_be_read(room: Room) -> None:
    sandbox = room.service.live(room.runtimes.of_space(room.space.id)[0].id)
    await sandbox.write_file("prod.env", b"KEY=needle\n", overwrite=True)
    await room.call("sandbox.write_file", path="src/a.py", content="x = 1\nneedle = 2\n")
    found = await room.call("sandbox.search", pattern="needle")
    assert [(one.path, one.line, one.text) for one in found.matches] == [("src/a.py", 2, "needle = 2")]
    assert found.withheld == 1


async def test_a_search_says_that_a_file_was_too_large_for_it(room: Room) -> None:
    await room.shell("yes needle | head -c 11000000 > log.txt")
    found = await room.call("sandbox.search", pattern="needle")
    assert (found.matches, found.files_too_large) == ((), 1)
    await room.call("sandbox.delete_file", path="log.txt")
    assert (await room.call("sandbox.search", pattern="needle")).files_too_large is None


async def test_a_search_takes_a_name_without_folders_as_one_at_any_depth(room: Room) -> None:
    for path in ("top.py", "src/deep/low.py", "src/deep/low.md"):
        await room.call("sandbox.write_file", path=path, content="needle\n")
    found = await room.call("sandbox.search", pattern="needle", glob="*.py")
    assert [one.path for one in found.matches] == ["src/deep/low.py", "top.py"]
    found = await room.call("sandbox.search", pattern="needle", glob="src/*/low.*", path="src")
    assert [one.path for one in found.matches] == ["src/deep/low.md", "src/deep/low.py"]


@pytest.mark.parametrize(
    ("operation", "arguments"),
    [("sandbox.glob", {"pattern": "**/*.{ts,tsx}"}), ("sandbox.search", {"pattern": "x", "glob": "*.{ts,tsx}"})],
)
async def test_a_choice_in_braces_is_refused_instead_of_finding_nothing(
    room: Room, operation: str, arguments: dict[str, Any]
) -> None:
    with pytest.raises(InvalidInput, match="one call for each"):
        await room.call(operation, **arguments)


async def test_lists_are_cut_to_what_an_answer_holds(room: Room) -> None:
    await room.shell("mkdir many && cd many && touch $(seq -f 'a-file-with-quite-a-long-name-%g' 1 900)")
    found = await room.call("sandbox.glob", pattern="many/*", limit=1000)
    assert found.truncated and cost("".join(found.paths)) < ANSWER_CHARACTERS
    listed = await room.call("sandbox.list_files", path="many", limit=1000)
    assert listed.truncated and len(listed.entries) > 100


async def test_a_search_with_a_broken_expression_says_so(room: Room) -> None:
    with pytest.raises(InvalidInput):
        await room.call("sandbox.search", pattern="(")


BAD_PATHS = [
    "",
    "..",
    "a/../b",
    "/etc/passwd",
    "/workspacex",
    "a\0b",
    "a\nb",
    "a\x7fb",
    "\ud800",
    "x" * 1025,
    "ü" * 513,
]


async def test_the_workspace_itself_is_no_file(room: Room) -> None:
    for path in (".", "/workspace/", "./"):
        with pytest.raises(InvalidInput, match="folder"):
            await room.call("sandbox.read_file", path=path)


@pytest.mark.parametrize("path", BAD_PATHS)
async def test_a_bad_path_is_refused_in_words_and_never_repeated(room: Room, path: str) -> None:
    for operation_id, more in (
        ("sandbox.read_file", {}),
        ("sandbox.write_file", {"content": ""}),
        ("sandbox.edit_file", {"edits": [{"old": "a", "new": "b"}]}),
        ("sandbox.delete_file", {}),
        ("sandbox.list_files", {}),
        ("sandbox.shell", {"command": "true"}),
    ):
        name = "cwd" if operation_id == "sandbox.shell" else "path"
        arguments: dict[str, Any] = {name: path, **more}
        with pytest.raises(InvalidInput) as caught:
            await room.call(operation_id, **arguments)
        assert name in caught.value.message


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("a", "a"),
        ("./a//b/", "a/b"),
        ("/workspace", "."),
        ("/workspace/a", "a"),
        ("a\\b", "a\\b"),
        ("..a/b..", "..a/b.."),
        ("ü" * 512, "ü" * 512),
    ],
)
def test_paths_have_one_form(written: str, meant: str) -> None:
    assert canonical_path(written) == meant
    assert canonical_path(meant) == meant


@pytest.mark.parametrize(
    "arguments",
    [
        {"content": "x", "encoding": "base64!"},
        {"content": "not base64", "encoding": "base64"},
        {"content": "\ud800"},
        {"content": "x" * ((10 << 20) + 1)},
    ],
)
async def test_bad_content_is_refused_and_nothing_is_written(room: Room, arguments: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        await room.call("sandbox.write_file", path="a", **arguments)
    with pytest.raises(NotFound):
        await room.call("sandbox.read_file", path="a")


@given(st.binary(max_size=300), st.integers(min_value=12, max_value=300))
def test_bytes_become_text_in_steps_without_loss(content: bytes, budget: int) -> None:
    # A character of four bytes, or an escape of six, has to fit beside another one.
    text, rest = "", content
    while rest:
        step = text_within(rest, budget, open_end=False)
        assert cost(step.text) <= budget
        assert step.used_bytes > 0
        text, rest = text + step.text, rest[step.used_bytes :]
    assert text.encode() == content or "�" in text


@given(st.text(max_size=400), st.integers(min_value=0, max_value=400))
def test_a_start_is_the_longest_that_fits(text: str, budget: int) -> None:
    start = start_within(text, budget)
    assert text.startswith(start) and cost(start) <= budget
    assert len(start) == len(text) or cost(text[: len(start) + 1]) > budget


@given(st.text(min_size=200, max_size=600), st.integers(min_value=60, max_value=150))
def test_two_ends_fit(text: str, budget: int) -> None:
    assert cost(ends_within(text, text, budget, left_out="cut")) <= budget


@given(st.lists(st.integers(0, 1000), max_size=8), st.integers(0, 3000))
def test_shares_are_never_more_than_asked_or_given(costs: list[int], budget: int) -> None:
    given_shares = shares(costs, budget)
    assert sum(given_shares) <= budget
    assert all(share <= asked for share, asked in zip(given_shares, costs, strict=True))
    assert sum(costs) > budget or given_shares == costs
