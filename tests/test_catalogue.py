"""The catalogue: what every operation has to be, so that tools, context, commands and reference can follow from it."""

from __future__ import annotations

import ast
import inspect
import json
import re
from itertools import pairwise
from pathlib import Path

import pytest
from pydantic import BaseModel

from mcp_spaces.catalogue import CATALOGUE
from mcp_spaces.core.effect import HINTS, Effect
from mcp_spaces.core.json_schema import input_schema
from mcp_spaces.core.operation import AnyOperation, Audience
from mcp_spaces.core.place import Everywhere
from mcp_spaces.core.policy import PRESETS, load_preset
from mcp_spaces.core.scope import OperationPattern
from tests.security.app import open_world
from tests.security.prepared import prepared

LISTED_MAX = 40
"""Clients offer a model some forty tools in all, and ours are not the only ones."""
CONTEXT_TOKENS_MAX = 1_500
CHARACTERS_A_TOKEN = 4

everyone = [operation for operation in CATALOGUE if operation.audience is Audience.EVERYONE]
each = pytest.mark.parametrize("operation", CATALOGUE, ids=lambda operation: operation.id)


def test_ids_and_tools_are_there_once() -> None:
    assert len({operation.id for operation in CATALOGUE}) == len(CATALOGUE)
    assert len({operation.tool for operation in CATALOGUE}) == len(CATALOGUE)


@each
def test_names_are_well_formed_and_short_enough_for_every_client(operation: AnyOperation) -> None:
    assert re.fullmatch(r"[a-z]+\.[a-z][a-z_]*", operation.id)
    assert re.fullmatch(r"[a-z0-9_]{1,40}", operation.tool)
    assert all(re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name) for name in input_schema(operation)["properties"])
    pattern, _ = OperationPattern.__metadata__  # type: ignore[attr-defined]
    assert re.fullmatch(pattern.pattern, operation.id), "a scope could not name it"


@each
def test_the_example_is_a_valid_input(operation: AnyOperation) -> None:
    wanted = operation.input.model_validate(operation.example)
    assert isinstance(wanted, Everywhere)
    assert json.loads(json.dumps(dict(operation.example))) == dict(operation.example)
    operation.facts(wanted)
    # What needs something says what.
    if any(field.is_required() for field in operation.input.model_fields.values()):
        assert operation.example


@each
def test_the_schema_is_an_object_without_alternatives_at_its_root(operation: AnyOperation) -> None:
    schema = input_schema(operation)
    assert schema["type"] == "object"
    assert not {"anyOf", "oneOf", "allOf", "$ref", "$defs", "not"} & set(schema)
    assert schema["additionalProperties"] is False
    text = json.dumps(schema)
    assert "$ref" not in text and '"title"' not in text
    for name, part in schema["properties"].items():
        assert {"type", "anyOf", "enum", "const", "oneOf", "items"} & set(part), name


def said_below_its_fields(model: type[BaseModel]) -> set[str]:
    """The fields below which the source of a model, or of one that it is made from, has a text."""
    found = set[str]()
    for one in model.__mro__:
        if one.__module__.startswith("mcp_spaces.") and "[" not in one.__name__:
            (declared,) = ast.parse(inspect.cleandoc(f"\n{inspect.getsource(one)}")).body
            assert isinstance(declared, ast.ClassDef)
            for field, below in pairwise(declared.body):
                if isinstance(field, ast.AnnAssign) and isinstance(below, ast.Expr):
                    found.add(ast.unparse(field.target))
    return found


@each
def test_what_is_said_below_a_field_of_an_answer_stands_in_the_reference(operation: AnyOperation) -> None:
    described = {name for name, field in operation.output.model_fields.items() if field.description}
    assert said_below_its_fields(operation.output) <= described


@each
def test_the_summary_is_one_short_sentence(operation: AnyOperation) -> None:
    assert 8 <= len(operation.summary) <= 100
    assert operation.summary.endswith(".") and operation.summary[0].isupper()
    assert "\n" not in operation.summary and operation.summary.isprintable()


READ_ONLY = {"get", "list", "read", "stat", "browse", "wait", "explain", "state", "verify", "glob", "search"}
DESTRUCTIVE = {"delete", "stop", "down", "revoke", "cancel", "shell", "call", "write", "write_file", "edit_file"}


@each
def test_hints_say_what_the_verb_says(operation: AnyOperation) -> None:
    hints = operation.hints
    assert not (hints.read_only and hints.destructive)
    words = {operation.verb, *operation.verb.split("_")}
    if words & READ_ONLY and operation.verb not in ("run_operations",):
        assert hints.read_only, operation.id
    if words & DESTRUCTIVE:
        assert hints.destructive, operation.id
    # A one-time code changes nothing that can be seen, and is given out once.
    if hints.read_only and operation.id != "vault.totp":
        assert operation.idempotent, "reading twice is reading once"


def test_every_effect_has_hints_and_a_verdict_in_every_preset() -> None:
    assert set(HINTS) == set(Effect)
    for preset in PRESETS:
        assert {effect.value for effect in Effect} == set(type(load_preset(preset).effects).model_fields)


@each
def test_what_governs_everybody_is_the_operators(operation: AnyOperation) -> None:
    """An owner may change a space of its own; who may do what is nobody's but the operator's."""
    if operation.noun in ("approval", "key", "principal", "audit", "state"):
        assert operation.audience is Audience.OPERATOR
    if operation.effect is Effect.GOVERNS and operation.audience is Audience.EVERYONE:
        assert operation.id in ("space.update", "space.extend")


def test_the_list_of_tools_stays_small() -> None:
    assert len([operation for operation in everyone if operation.listed]) <= LISTED_MAX


@pytest.mark.anyio
async def test_the_operators_operations_are_invisible_to_agents(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        assert {one.id for one in world.app.permitted(world.agent)} == {one.id for one in everyone}
        assert {one.id for one in world.app.permitted(world.operator)} == {one.id for one in CATALOGUE}
        at = await prepared(world, "work")
        shown = (await world.call("context.get", space=at.space, detail="full")).model_dump_json()
        for operation in CATALOGUE:
            if operation.audience is Audience.OPERATOR:
                assert f'"{operation.id}"' not in shown and f'"{operation.tool}"' not in shown


@pytest.mark.anyio
@pytest.mark.parametrize("preset", PRESETS)
async def test_the_compact_context_costs_few_tokens(tmp_path: Path, preset: str) -> None:
    async with open_world(tmp_path) as world:
        at = await prepared(world, "work", preset=preset)
        answer = await world.call("context.get", space=at.space)
        text = json.dumps(answer.model_dump(mode="json", exclude_none=True), separators=(",", ":"))
        assert len(text) / CHARACTERS_A_TOKEN <= CONTEXT_TOKENS_MAX, len(text)
