"""S19: text from inside a sandbox reaches a terminal as text. It moves no cursor and sets no clipboard."""

from __future__ import annotations

import json
import re

import pytest

from mcp_spaces.cli import show
from tests.cli.commands import on_a_terminal, run, small_house
from tests.server.small_app import AWKWARD

pytestmark = pytest.mark.anyio

ACTIVE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\U000e0000-\U000e007f]"
)
HOSTILE = AWKWARD + "\n\r[bold red]x[/] :smile: \U000e0041\u2066"


async def test_s19_an_answer_is_escaped_for_people_and_for_programs() -> None:
    async with small_house() as house:
        shown = await run("operation", "call", "thing.awkward", state_dir=house.settings.state_dir)
        document = await run("operation", "call", "thing.awkward", "--json", state_dir=house.settings.state_dir)
    for ended in (shown, document):
        assert ended.code == 0
        assert not ACTIVE.search(ended.stdout.replace("\n", ""))
    assert "\\x1b]52;c;\\x07" in shown.stdout
    assert document.json()["text"] == AWKWARD


async def test_s19_an_error_is_escaped() -> None:
    async with small_house() as house:
        ended = await run("operation", "call", "thing.refuse", "--json", state_dir=house.settings.state_dir)
    assert not ACTIVE.search((ended.stdout + ended.stderr).replace("\n", ""))
    assert "\\x1b[2J" in ended.stderr


async def test_s19_progress_on_a_terminal_is_escaped() -> None:
    async with small_house() as house:
        seen = await on_a_terminal("operation", "call", "thing.report", state_dir=str(house.settings.state_dir))
    assert "\\x1b[31m" in seen
    assert "step 1\x1b[31m" not in seen


@pytest.mark.parametrize("key", ["path", "id", HOSTILE])
def test_s19_a_row_of_a_table_is_one_line(key: str, capsys: pytest.CaptureFixture[str]) -> None:
    show.print_table([{key: HOSTILE, "size_bytes": 1}, {key: "plain", "size_bytes": 2}])
    printed = capsys.readouterr().out
    assert not ACTIVE.search(printed.replace("\n", ""))
    assert "[bold red]x[/] :smile:" in printed
    assert len(printed.splitlines()) == 3


@pytest.mark.parametrize("key", ["path", "id", HOSTILE])
def test_s19_no_text_passes_for_a_line_of_ours(key: str, capsys: pytest.CaptureFixture[str]) -> None:
    show.print_record({"inner": {key: HOSTILE}, "list": [{key: HOSTILE}], "words": [HOSTILE], "deep": [[HOSTILE]]})
    printed = capsys.readouterr().out
    assert not ACTIVE.search(printed.replace("\n", ""))
    assert re.findall(r"(?m)^\S+", printed) == ["inner", "list", "words", "deep"]
    assert all(line.startswith("    | ") for line in printed.splitlines() if line.lstrip(" |").startswith("\\r"))


def test_s19_json_holds_every_character_escaped(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    show.print_json({HOSTILE: [HOSTILE, "half \ud800"]})
    printed = capfdbinary.readouterr().out.decode()
    assert not ACTIVE.search(printed.replace("\n", ""))
    assert json.loads(printed) == {HOSTILE: [HOSTILE, "half \ud800"]}
