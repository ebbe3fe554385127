"""What `vault set` takes from standard input: exactly what it asked for, or nothing is stored."""

from __future__ import annotations

import json
from typing import Any

import pytest
from typer.testing import CliRunner

from mcp_spaces.cli.main import app

NOWHERE = {"MCP_SPACES_STATE_DIR": "/proc/none", "MCP_SPACES_SERVER": ""}
"""No daemon can be asked, or started: that would end with 3."""


def vault_set(*words: str, stdin: bytes) -> Any:
    return CliRunner().invoke(app, ["vault", "set", "prod/a", *words, "--json"], input=stdin, env=NOWHERE)


@pytest.mark.parametrize(
    ("words", "stdin"),
    [
        ((), b""),
        ((), b"\n"),
        ((), b"\xff"),
        (("--kind", "login", "--totp"), b"hunter2\n"),
        (("--kind", "login", "--totp"), b"hunter2\nseed\nmore\n"),
        (("--kind", "login", "--totp"), b"hunter2\n\n"),
        (("--fields",), b"{hunter2"),
        (("--fields",), b'["hunter2"]'),
        (("--fields",), b'{"value": 7, "notes": "hunter2"}'),
    ],
)
def test_what_was_not_asked_for_is_a_usage_error_that_repeats_none_of_it(words: tuple[str, ...], stdin: bytes) -> None:
    ended = vault_set(*words, stdin=stdin)
    assert ended.exit_code == 2
    assert json.loads(ended.stdout)["error"]["code"] == "invalid_input"
    assert "hunter2" not in ended.output
