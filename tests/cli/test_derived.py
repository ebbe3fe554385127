"""Commands follow from operations, without losing anything on the way."""

from __future__ import annotations

import io
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from mcp_spaces.catalogue import CATALOGUE
from mcp_spaces.cli import derived, fields, reading, reference
from mcp_spaces.cli.command_line import command_line
from mcp_spaces.cli.hints import for_terminal
from mcp_spaces.cli.main import USAGE_ERROR
from mcp_spaces.core.operation import AnyOperation
from tests.cli.commands import ROOT


def test_help_knows_every_noun_without_the_catalogue() -> None:
    assert set(derived.NOUNS) == {operation.noun for operation in CATALOGUE}


@pytest.mark.parametrize("operation", CATALOGUE, ids=lambda one: one.id)
def test_an_example_survives_the_command_line(operation: AnyOperation, monkeypatch: pytest.MonkeyPatch) -> None:
    words = [_unquoted(word) for word in shlex.split(_plain(command_line(operation, operation.example)))]
    assert words[:3] == ["mcp-spaces", operation.noun, derived.verb_of(operation)]
    context = derived.command(operation).make_context(words[2], words[3:])
    arguments = fields.arguments_of(operation)
    typed = [str(operation.example[one.name]) for one in arguments if one.always_asked]
    monkeypatch.setattr("sys.stdin", io.StringIO("".join(f"{text}\n" for text in typed)))
    assert reading.read(arguments, context.params) == operation.example
    assert not any(text in words for text in typed)


@pytest.mark.parametrize("operation", CATALOGUE, ids=lambda one: one.id)
def test_every_field_has_a_flag_of_its_own(operation: AnyOperation) -> None:
    arguments = fields.arguments_of(operation)
    assert {one.name for one in arguments} == set(operation.input.model_fields)
    assert len({one.flag for one in arguments}) == len(arguments)
    assert not {"--json", "--yes", "--help"} & {one.flag for one in arguments}


@pytest.mark.parametrize(
    ("words", "given"),
    [
        ("vault get prod/a", {"path": "prod/a"}),
        ("vault get prod/a work", {"path": "prod/a", "space": "work"}),
        ("vault totp prod/a --space work", {"path": "prod/a", "space": "work"}),
        ("vault describe --path prod/a", {"path": "prod/a"}),
        ("vault describe work --path prod/a", {"path": "prod/a", "space": "work"}),
        ("vault describe --path=prod/a --space=work", {"path": "prod/a", "space": "work"}),
        ("space get --space work", {"space": "work"}),
        ("key revoke --key key_a", {"key": "key_a"}),
        ("sandbox delete-file work --path a.txt", {"space": "work", "path": "a.txt"}),
    ],
)
def test_what_has_a_place_has_a_flag_as_well(words: str, given: dict[str, str]) -> None:
    assert _understood(words) == given


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ("vault get", "Missing argument 'PATH'"),
        ("vault get --space work", "Missing argument 'PATH'"),
        ("space delete --force", "Missing argument 'SPACE'"),
        ("vault get prod/a work more", "extra argument(s) (more)"),
        ("vault get work more --path prod/a", "extra argument(s) (more)"),
        ("space get work --space other", "extra argument(s) (work)"),
    ],
)
def test_a_word_without_a_place_and_a_place_without_a_word_are_told(words: str, problem: str) -> None:
    with pytest.raises(USAGE_ERROR) as told:
        _understood(words)
    assert problem in told.value.format_message()


def test_a_text_that_begins_with_an_at_sign_is_doubled(tmp_path: Path) -> None:
    file = tmp_path / "script"
    file.write_text("echo from a file")
    (command,) = [one for one in fields.arguments_of(_operation("sandbox.shell")) if one.name == "command"]
    assert reading.read([command], {"command": f"@{file}"}) == {"command": "echo from a file"}
    assert reading.read([command], {"command": "@@home"}) == {"command": "@home"}
    with pytest.raises(reading.Unreadable, match="No such file"):
        reading.read([command], {"command": f"@{tmp_path}/nothing"})


def test_a_policy_of_ones_own_is_a_file_of_toml(tmp_path: Path) -> None:
    file = tmp_path / "reviews.toml"
    file.write_text('preset = "standard"\n[overrides.shell]\ngit_push = "deny"\n')
    (policy,) = [one for one in fields.arguments_of(_operation("space.create")) if one.name == "policy"]
    read = reading.read([policy], {"policy": f"@{file}"})
    assert read == {"policy": {"preset": "standard", "overrides": {"shell": {"git_push": "deny"}}}}
    file.write_text("preset = ")
    with pytest.raises(reading.Unreadable, match="is not TOML"):
        reading.read([policy], {"policy": f"@{file}"})


def test_bytes_that_are_no_text_go_as_base64_where_an_operation_takes_them(tmp_path: Path) -> None:
    picture = tmp_path / "picture.png"
    picture.write_bytes(b"\x89PNG")
    arguments = fields.arguments_of(_operation("storage.upload"))
    sent = reading.read(arguments, {"path": "a.png", "content": f"@{picture}"})
    assert sent == {"path": "a.png", "content": "iVBORw==", "encoding": "base64"}
    with pytest.raises(reading.Unreadable, match="not UTF-8"):
        reading.read(arguments, {"path": "a.png", "content": f"@{picture}", "encoding": "utf-8"})
    with pytest.raises(reading.Unreadable, match="not UTF-8"):
        reading.read(fields.arguments_of(_operation("sandbox.shell")), {"command": f"@{picture}"})


def test_help_says_what_a_flag_with_json_takes_instead_of_leading_elsewhere() -> None:
    policy, mounts = (
        one.description for one in fields.arguments_of(_operation("space.create")) if one.name in ("mounts", "policy")
    )
    assert policy == "{preset: restrictive|standard|permissive, overrides: {…}}"
    assert "network: {mode: none|allowlist|open, allow: […], own_authority: true|false}" in mounts
    everything = [one.description for operation in CATALOGUE for one in fields.arguments_of(operation)]
    assert [text for text in everything if "topic=" in text] == []


@pytest.mark.parametrize(
    ("hint", "told"),
    [
        ("space_list shows the spaces that you can see.", "`mcp-spaces space list` shows the spaces that you can see."),
        (
            "Stop them (space_down), or delete with force=true.",
            "Stop them (`mcp-spaces space down`), or delete with --force.",
        ),
        ("Start it: space_up space=sp_a", "Start it: `mcp-spaces space up sp_a`"),
        (
            "Use an allowed command; context_get topic=rules detail=full lists them.",
            "Use an allowed command; `mcp-spaces context get --topic rules --detail full` lists them.",
        ),
        ("Run `mcp-spaces approve ap_a`.", "Run `mcp-spaces approve ap_a`."),
        ("Set browser_executable to a Chromium.", "Set browser_executable to a Chromium."),
    ],
)
def test_a_hint_names_commands_instead_of_tools_at_a_terminal(hint: str, told: str) -> None:
    assert for_terminal(hint) == told


def test_a_patch_reaches_inside_by_a_path() -> None:
    (patch,) = [one for one in fields.arguments_of(_operation("space.update")) if one.name == "patch"]
    given = ["limits.cpu_cores=2", "limits.pids=64", "labels.team=null", "name=other"]
    assert reading.read([patch], {"patch": given})["patch"] == {
        "limits": {"cpu_cores": 2, "pids": 64},
        "labels": {"team": None},
        "name": "other",
    }
    with pytest.raises(reading.Unreadable, match=r"limits\.pids stands in what was set already"):
        reading.read([patch], {"patch": ["limits=null", "limits.pids=64"]})


def test_null_is_said_only_where_it_means_something() -> None:
    arguments = fields.arguments_of(_operation("space.extend"))
    assert reading.read(arguments, {"space": "null", "ttl_s": "null"}) == {"space": "null", "ttl_s": None}


def test_values_of_text_mappings_stay_text() -> None:
    arguments = fields.arguments_of(_operation("sandbox.shell"))
    assert reading.read(arguments, {"env": ["A=1", "B=", "C=x=y"]}) == {"env": {"A": "1", "B": "", "C": "x=y"}}
    with pytest.raises(reading.Unreadable, match="neither KEY=VALUE"):
        reading.read(arguments, {"env": ["A"]})


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


def _understood(words: str) -> dict[str, object]:
    noun, verb, *rest = words.split()
    operation = _operation(f"{noun}.{verb.replace('-', '_')}")
    context = derived.command(operation).make_context(verb, rest)
    return reading.read(fields.arguments_of(operation), context.params)


def _operation(operation_id: str) -> AnyOperation:
    return next(one for one in CATALOGUE if one.id == operation_id)


def _plain(line: str) -> str:
    """Bash's $'…', of which shlex knows nothing."""
    return line.replace("$'", "'\x01")


def _unquoted(word: str) -> str:
    return word[1:].replace("\\n", "\n") if word.startswith("\x01") else word
