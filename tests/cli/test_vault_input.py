"""What `vault set` takes from standard input: exactly what it asked for, or nothing is stored."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
from typing import Any

import pytest
from typer.testing import CliRunner

from mcp_spaces.cli.main import app
from tests.cli.commands import MAIN, ROOT

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


def test_what_is_spelled_wrongly_is_said_before_anybody_types_a_secret() -> None:
    ended = CliRunner().invoke(app, ["vault", "set", "prod/a", "--origin", "api.github.com"], input=b"", env=NOWHERE)
    assert ended.exit_code == 2
    assert "https://api.example.com" in ended.output and "standard input" not in ended.output


def test_ctrl_c_at_a_prompt_ends_as_everywhere() -> None:
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [*MAIN, "vault", "set", "prod/a"],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**os.environ, **NOWHERE},
        cwd=ROOT,
        start_new_session=True,
    ) as process:
        os.close(theirs)
        shown = b""
        while b"value: " not in shown:
            shown += os.read(ours, 1024)
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
    os.close(ours)
