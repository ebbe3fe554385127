"""Commands follow from operations, without losing anything on the way."""

from __future__ import annotations

import io
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from mcp_spaces.catalogue import CATALOGUE
from mcp_spaces.cli import derived, fields, reference
from mcp_spaces.core.operation import AnyOperation
from tests.cli.commands import ROOT


def test_help_knows_every_noun_without_the_catalogue() -> None:
    assert set(derived.NOUNS) == {operation.noun for operation in CATALOGUE}


@pytest.mark.parametrize("operation", CATALOGUE, ids=lambda one: one.id)
def test_an_example_survives_the_command_line(operation: AnyOperation, monkeypatch: pytest.MonkeyPatch) -> None:
    words = [_unquoted(word) for word in shlex.split(_plain(fields.command_line(operation, operation.example)))]
    assert words[:3] == ["mcp-spaces", operation.noun, derived.verb_of(operation)]
    context = derived.command(operation).make_context(words[2], words[3:])
    arguments = fields.arguments_of(operation)
    typed = [str(operation.example[one.name]) for one in arguments if one.always_asked]
    monkeypatch.setattr("sys.stdin", io.StringIO("".join(f"{text}\n" for text in typed)))
    assert fields.read(arguments, context.params) == operation.example
    assert not any(text in words for text in typed)


@pytest.mark.parametrize("operation", CATALOGUE, ids=lambda one: one.id)
def test_every_field_has_a_flag_of_its_own(operation: AnyOperation) -> None:
    arguments = fields.arguments_of(operation)
    assert {one.name for one in arguments} == set(operation.input.model_fields)
    assert len({one.flag for one in arguments}) == len(arguments)
    assert not {"--json", "--yes", "--help"} & {one.flag for one in arguments}


def test_a_text_that_begins_with_an_at_sign_is_doubled(tmp_path: Path) -> None:
    file = tmp_path / "script"
    file.write_text("echo from a file")
    (command,) = [one for one in fields.arguments_of(_operation("sandbox.shell")) if one.name == "command"]
    assert fields.read([command], {"command": f"@{file}"}) == {"command": "echo from a file"}
    assert fields.read([command], {"command": "@@home"}) == {"command": "@home"}
    with pytest.raises(fields.Unreadable, match="No such file"):
        fields.read([command], {"command": "@/nonexistent"})


def test_a_policy_of_ones_own_is_a_file_of_toml(tmp_path: Path) -> None:
    file = tmp_path / "reviews.toml"
    file.write_text('preset = "standard"\n[overrides.shell]\ngit_push = "deny"\n')
    (policy,) = [one for one in fields.arguments_of(_operation("space.create")) if one.name == "policy"]
    read = fields.read([policy], {"policy": f"@{file}"})
    assert read == {"policy": {"preset": "standard", "overrides": {"shell": {"git_push": "deny"}}}}
    file.write_text("preset = ")
    with pytest.raises(fields.Unreadable, match="is not TOML"):
        fields.read([policy], {"policy": f"@{file}"})


def test_null_is_said_only_where_it_means_something() -> None:
    arguments = fields.arguments_of(_operation("space.extend"))
    assert fields.read(arguments, {"space": "null", "ttl_s": "null"}) == {"space": "null", "ttl_s": None}


def test_values_of_text_mappings_stay_text() -> None:
    arguments = fields.arguments_of(_operation("sandbox.shell"))
    assert fields.read(arguments, {"env": ["A=1", "B=", "C=x=y"]}) == {"env": {"A": "1", "B": "", "C": "x=y"}}
    with pytest.raises(fields.Unreadable, match="neither KEY=VALUE"):
        fields.read(arguments, {"env": ["A"]})


def test_the_reference_is_the_same_each_time() -> None:
    assert reference.pages() == reference.pages()


def test_the_reference_says_every_error_and_setting() -> None:
    pages = reference.pages()
    assert "`internal`" in pages["errors.md"]
    assert "└── Internal" in pages["errors.md"]
    assert "`MCP_SPACES_HTTP_PORT`" in pages["settings.md"]


def test_help_imports_nothing_heavy() -> None:
    heavy = ("mcp", "mcp_types", "docker", "sqlite3", "mcp_spaces.catalogue", "mcp_spaces.settings")
    code = f"import sys, mcp_spaces.cli.main; print([name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=30)
    assert done.stdout == "[]\n", done.stderr


def _operation(operation_id: str) -> AnyOperation:
    return next(one for one in CATALOGUE if one.id == operation_id)


def _plain(line: str) -> str:
    """Bash's $'…', of which shlex knows nothing."""
    return line.replace("$'", "'\x01")


def _unquoted(word: str) -> str:
    return word[1:].replace("\\n", "\n") if word.startswith("\x01") else word
