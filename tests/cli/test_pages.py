"""What the pages tell a reader to type can be typed, and what they name is there."""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from pydantic import BaseModel, Field

from mcp_spaces.catalogue import CATALOGUE
from mcp_spaces.cli import fields, reading
from mcp_spaces.cli.main import app
from mcp_spaces.core import facts, place
from mcp_spaces.core.answer import Answer
from mcp_spaces.core.context import Context
from mcp_spaces.core.effect import Effect
from mcp_spaces.core.operation import AnyOperation, Operation
from mcp_spaces.core.pipeline import Pipeline
from mcp_spaces.core.policy import Policy, policy_from
from mcp_spaces.errors import Conflict
from mcp_spaces.sandbox import port
from mcp_spaces.settings import Settings
from mcp_spaces.spaces.operations import CreateInput
from tests.cli.commands import ROOT
from tests.security.app import open_world

PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("docs/decisions/*.md")])
OPERATIONS = {operation.id: operation for operation in CATALOGUE}
TYPED = re.compile(r"^[(\s]*(?:umask 077; *)?(?:[A-Z_]+=\S+ +)*(?:docker exec mcp-spaces |.* \| )?(mcp-spaces .*)$")
BESIDE = re.compile(r" {3,}\S.*$| +# .*$|[)>|;].*$")
"""What stands beside a command on its line: an explanation, or more of the shell."""


def commands(page: Path) -> Iterator[str]:
    """Those that stand on lines of their own."""
    for line in page.read_text("utf-8").splitlines():
        if line.startswith("    ") and (typed := TYPED.match(line)):
            yield typed[1]


def words_of(command: str) -> list[str]:
    quoted = re.sub(r"'[^']*'", lambda one: one[0].translate({ord(c): f"\\u{ord(c):04x}" for c in ")>|;#"}), command)
    return shlex.split(BESIDE.sub("", quoted))


def understood(words: list[str]) -> tuple[str, dict[str, Any]]:
    """The command's name and what it takes. Raises what the command line raises."""
    command: Any = typer.main.get_command(app)
    path = []
    while hasattr(command, "resolve_command"):
        context = command.make_context(words[0], words[1:])
        _, command, rest = command.resolve_command(context, [*context._protected_args, *context.args])
        path.append(words[0])
        words = [command.name, *rest]
    return " ".join([*path[1:], words[0]]), command.make_context(words[0], words[1:]).params


PLACEHOLDERS = ("NOUN", "[--to", "…")
TYPED_ONES = [
    pytest.param(command, id=f"{page.relative_to(ROOT)}: {command[:60]}")
    for page in PAGES
    for command in commands(page)
    if not any(one in command for one in PLACEHOLDERS)
]


@pytest.mark.parametrize("command", TYPED_ONES)
def test_every_command_of_a_page_can_be_typed(command: str) -> None:
    words = words_of(command)
    name, params = understood(words)
    if any("{" in word for word in words):
        operation = OPERATIONS[name.replace("-", "_").replace(" ", ".", 1)]
        operation.input.model_validate(reading.read(fields.arguments_of(operation), params))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_piece_of_json_and_toml_of_a_page_fits(page: Path) -> None:
    text = page.read_text("utf-8")
    for piece in [
        *re.findall(r"^ {4}(\{\".*\})$", text, re.MULTILINE),
        *re.findall(r"```json\n(.*?)```", text, re.DOTALL),
    ]:
        if "…" in piece:
            continue
        said = json.loads(piece)
        if "preset" in said:
            policy_from(said["preset"], said["overrides"])
        elif "vault" in said:
            CreateInput(name="work", mounts=said)
        elif "steps" in said or "command" in said:
            OPERATIONS["browser.execute" if "steps" in said else "sandbox.shell"].input.model_validate(said)
    for file in re.findall(r"^ {4}# \w+\.toml\n((?: {4}.+\n)+)", text, re.MULTILINE):
        said = tomllib.loads(file)
        if "preset" in said:
            policy_from(said["preset"], said["overrides"])


NAMED = re.compile(r"`((?:[a-z]+[._])+[a-z_]+)(?: [^`]*)?`|(MCP_SPACES_[A-Z_]+)")
RULES = {
    f"{table}.{rule}"
    for table, field in Policy.model_fields.items()
    if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
    for rule in field.annotation.model_fields
}
SOURCES = "\n".join(
    path.read_text("utf-8")
    for folder in ("mcp_spaces", "resources", "scripts")
    for path in (ROOT / folder).rglob("*")
    if path.is_file() and "__pycache__" not in path.parts
)
OTHERS = {"sandbox.touch"}
"""Of the page that says how an operation is added."""


@pytest.mark.parametrize("page", [one for one in PAGES if one.name != "CHANGELOG.md"], ids=lambda page: page.name)
def test_every_operation_rule_and_setting_that_a_page_names_is_there(page: Path) -> None:
    nouns = {operation.noun for operation in CATALOGUE} | {rule.partition(".")[0] for rule in RULES}
    known = RULES | OTHERS | {name for operation in CATALOGUE for name in (operation.id, operation.tool)}
    known |= {f"MCP_SPACES_{name.upper()}" for name in Settings.model_fields}
    named = {
        one or variable
        for one, variable in NAMED.findall(page.read_text("utf-8"))
        if variable or re.split("[._]", one)[0] in nouns
    }
    assert sorted(one for one in named - known if one not in SOURCES) == []


@pytest.mark.anyio
async def test_the_operation_that_a_page_adds_works_as_it_stands(tmp_path: Path) -> None:
    page = (ROOT / "docs/adding-an-operation.md").read_text("utf-8")
    names: dict[str, Any] = {**vars(place), **vars(facts), **vars(port), "Answer": Answer, "Field": Field}
    names |= {"Context": Context, "Effect": Effect, "Operation": Operation}
    exec("\n".join(re.findall(r"```python\n(.*?)```", page, re.DOTALL)), names)
    added: AnyOperation = names["TOUCH"]
    example: dict[str, Any] = dict(added.example)
    async with open_world(tmp_path) as world:
        pipeline = world.use(Pipeline)
        pipeline.operations = {**pipeline.operations, added.id: added}
        await world.launched(await world.space("work"))
        assert (await world.call(added.id, **example)).path == "notes/today.md"
        with pytest.raises(Conflict):
            await world.call(added.id, **example)
