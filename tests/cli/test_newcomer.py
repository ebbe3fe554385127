"""The commands that a newcomer types, against the real daemon."""

from __future__ import annotations

import json
import os
import pty
import random
import re
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.cli.commands import MAIN, environment
from tests.cli.conftest import Daemon

PATIENCE_S = 30
HEADER = ["id", "name", "role", "state", "cpu", "memory", "disk", "net", "llm_tokens", "created_at"]


@pytest.fixture
def space(daemon: Daemon) -> Iterator[str]:
    made = str(daemon.call("space.create", name="work", labels={"ticket": "42"})["id"])
    yield made
    if made in [one["id"] for one in daemon.call("space.list")["spaces"]]:
        daemon.call("space.delete", space=made, force=True)


def test_list_prints_a_header_and_one_row_a_space(daemon: Daemon, space: str) -> None:
    header, *rows = daemon.run("list").stdout.splitlines()
    assert header.split() == HEADER
    (row,) = [one for one in rows if space in one]
    assert row.split()[:4] == [space, "work", "admin", "running"]


def test_list_as_json_is_every_space(daemon: Daemon, space: str) -> None:
    assert [one["id"] for one in daemon.run("list", "--json").json()["spaces"]] == [space]


def test_up_down_and_delete_answer_in_sentences(daemon: Daemon, space: str) -> None:
    said = [
        daemon.run("space", "down", "work"),
        daemon.run("space", "down", "work"),
        daemon.run("space", "up", "work"),
        daemon.run("space", "delete", "work"),
    ]
    assert [(one.code, one.stdout) for one in said] == [
        (0, f"space {space} is stopped\n"),
        (0, f"space {space} is stopped\n"),
        (0, f"space {space} is running\n"),
        (0, f"deleted space {space}\n"),
    ]


def test_up_as_json_is_the_space_itself(daemon: Daemon, space: str) -> None:
    up = daemon.run("space", "up", "work", "--json").json()
    assert (up["id"], up["state"], up["labels"]) == (space, "running", {"ticket": "42"})


def test_what_does_not_exist_says_so_with_a_hint(daemon: Daemon) -> None:
    ended = daemon.run("space", "get", "nowhere")
    assert ended.code == 1
    assert ended.stderr.startswith("error: ")
    assert "\nhint: " in ended.stderr


def test_a_patch_clears_with_null(daemon: Daemon, space: str) -> None:
    changed = daemon.run("space", "update", "work", "--patch", "labels=null", "--json")
    assert "labels" not in changed.json()


def test_runs_tells_of_a_call_and_runs_id_shows_it(daemon: Daemon, space: str) -> None:
    daemon.call("space.get", space="work")
    listed = daemon.run("runs", "--space", "work", "--json").json()["runs"]
    shown = daemon.run("runs", listed[-1]["id"], "--json").json()
    assert shown["operation"] == listed[-1]["operation"]


def test_the_audit_chain_is_whole(daemon: Daemon) -> None:
    ended = daemon.run("audit", "verify")
    assert ended.code == 0
    assert "none is missing" in ended.stdout


def test_a_backup_says_what_to_keep_as_well(daemon: Daemon, tmp_path: Path) -> None:
    ended = daemon.run("backup", str(tmp_path / "copy.db"))
    assert ended.code == 0
    assert f"wrote {tmp_path}/copy.db" in ended.stdout
    assert "keep as well" in ended.stdout
    assert (tmp_path / "copy.db").stat().st_size > 0


def test_a_key_stands_alone_on_stdout_and_opens_the_server(daemon: Daemon, space: str) -> None:
    key = daemon.run("key", "create", "ci", "--operator").stdout.strip()
    listed = daemon.run("--server", daemon.url, "list", "--json", MCP_SPACES_KEY=key)
    assert [one["id"] for one in listed.json()["spaces"]] == [space]


def test_an_agents_key_reaches_operations_that_are_no_tools(daemon: Daemon) -> None:
    key = daemon.run("key", "create", "agent").stdout.strip()
    daemon.run("--server", daemon.url, "space", "create", "mine", MCP_SPACES_KEY=key)
    ended = daemon.run("--server", daemon.url, "space", "up", "mine", MCP_SPACES_KEY=key)
    daemon.call("space.delete", space="mine", force=True)
    assert ended.code == 0, ended.stderr
    assert ended.stdout.endswith(" is running\n")


def test_approve_lists_decides_and_lets_the_call_through_once(daemon: Daemon) -> None:
    key = daemon.call("key.create", label="agent")["token"]
    agent = {"MCP_SPACES_KEY": key, "MCP_SPACES_SERVER": daemon.url}
    daemon.run("space", "create", "mine", **agent)
    daemon.run("sandbox", "launch", "mine", **agent)
    push = ("sandbox", "shell", "mine", "--command", "git push origin main")
    refused = daemon.run(*push, "--json", **agent)
    approval = refused.json()["error"]["details"]["approval_id"]
    listed = daemon.run("approve")
    decided = daemon.run("approve", approval)
    ran = daemon.run(*push, "--json", **agent)
    again = daemon.run(*push, **agent)
    daemon.call("space.delete", space="mine", force=True)
    assert refused.code == 1
    assert "git push origin main" in listed.stdout
    assert decided.stdout == f"approval {approval} is approved\n"
    assert ran.json()["exit_code"] == 128
    assert again.code == 1


def test_a_command_s_output_and_errors_go_where_they_belong(daemon: Daemon, space: str) -> None:
    daemon.call("sandbox.launch", space="work")
    ended = daemon.run("sandbox", "shell", "work", "--command", "echo out; echo err >&2; exit 3")
    assert (ended.code, ended.stdout) == (0, "out\n")
    assert ended.stderr == "err\nexit code 3\n"


def test_long_texts_come_from_standard_input(daemon: Daemon, space: str) -> None:
    daemon.call("sandbox.launch", space="work")
    daemon.run("sandbox", "write-file", "work", "--path", "@a.txt", "--content", "-", stdin="from stdin\n")
    assert daemon.run("sandbox", "read-file", "work", "--path", "@a.txt").stdout == "from stdin\n"


def test_connect_is_a_terminal_with_its_size_its_exit_code_and_a_record(daemon: Daemon, space: str) -> None:
    daemon.call("sandbox.launch", space="work")
    process, terminal = pty.fork()
    if process == 0:
        os.execvpe(sys.executable, [*MAIN, "connect", "work"], environment(daemon.state_dir, {"TERM": "vt100"}))
    try:
        _until(terminal, "$ ")
        os.write(terminal, b"stty size; echo $TERM-$((6 * 7))\r")
        assert "24 80" in _until(terminal, "vt100-42")
        os.write(terminal, b"exit 7\r")
        _until_closed(terminal)
    finally:
        os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 7
    run = daemon.call("run.list", operation="sandbox.connect")["runs"][0]
    assert run["state"] == "succeeded"


def test_leaving_a_terminal_ends_its_shell(daemon: Daemon, space: str) -> None:
    daemon.call("sandbox.launch", space="work")
    process, terminal = pty.fork()
    if process == 0:
        os.execvpe(sys.executable, [*MAIN, "connect", "work"], environment(daemon.state_dir))
    try:
        _until(terminal, "$ ")
        os.write(terminal, b"sleep 1000\r~.")
        _until_closed(terminal)
    finally:
        os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 0
    deadline = time.monotonic() + PATIENCE_S
    left = "sleep"
    while "sleep" in left and time.monotonic() < deadline:
        left = daemon.call("sandbox.shell", space="work", command="cat /proc/[0-9]*/comm")["stdout"]
    assert "sleep" not in left


def test_a_forwarded_port_is_told_once_it_listens_and_gone_with_ctrl_c(daemon: Daemon, space: str) -> None:
    daemon.run("sandbox", "launch", "work", "--alias", "main")
    with listening_where_nobody_is_put() as taken:
        port = str(taken.getsockname()[1])
        refused = daemon.run("port-forward", "work", "main", "8000", port)
        assert (refused.code, refused.stdout) == (1, "")
        assert f"Port {port} of this machine is taken." in refused.stderr
    command = [*MAIN, "port-forward", "work", "main", "8000", port]
    with subprocess.Popen(
        command, env=environment(daemon.state_dir), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        try:
            assert process.stdout is not None
            said = process.stdout.readline()
            assert said == f"http://127.0.0.1:{port} is port 8000 of main; Ctrl-C ends it.\n"
            socket.create_connection(("127.0.0.1", int(port)), timeout=PATIENCE_S).close()
        finally:
            process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE_S) == 130
    deadline = time.monotonic() + PATIENCE_S
    while _is_open(int(port)):
        assert time.monotonic() < deadline


def test_a_forwarded_port_may_be_picked_for_you(daemon: Daemon, space: str) -> None:
    daemon.run("sandbox", "launch", "work", "--alias", "main")
    command = [*MAIN, "port-forward", "work", "main", "8000", "0"]
    with subprocess.Popen(
        command, env=environment(daemon.state_dir), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        try:
            assert process.stdout is not None
            said = re.fullmatch(
                r"http://127.0.0.1:(\d+) is port 8000 of main; Ctrl-C ends it.\n", process.stdout.readline()
            )
            assert said is not None
            socket.create_connection(("127.0.0.1", int(said[1])), timeout=PATIENCE_S).close()
        finally:
            process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE_S) == 130


def test_connect_without_a_terminal_says_what_to_use_instead(daemon: Daemon) -> None:
    ended = daemon.run("connect", "work")
    assert ended.code == 2
    assert "sandbox shell" in ended.stderr


def test_doctor_finds_this_machine_well(daemon: Daemon) -> None:
    ended = daemon.run("doctor", "--json")
    found = {one["name"]: one for one in ended.json()["checks"]}
    assert ended.code == 0, json.dumps(found, indent=2)
    assert found["daemon"]["ok"]
    assert found["engine"]["ok"]


def listening_where_nobody_is_put() -> socket.socket:
    """On a port that the kernel gives nobody who asks for any: once it is closed, no other test has it."""
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    for port in random.sample(range(1024, lowest), 100):
        with suppress(OSError):
            return socket.create_server(("127.0.0.1", port))
    raise AssertionError("every port is taken")


def _is_open(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S).close()
    except OSError:
        return False
    return True


def _until(terminal: int, words: str) -> str:
    seen = b""
    deadline = time.monotonic() + PATIENCE_S
    while words.encode() not in seen:
        ready, _, _ = select.select([terminal], [], [], max(deadline - time.monotonic(), 0))
        assert ready, f"{words!r} did not come: {seen!r}"
        seen += os.read(terminal, 65_536)
    return seen.decode(errors="replace")


def _until_closed(terminal: int) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while True:
        ready, _, _ = select.select([terminal], [], [], max(deadline - time.monotonic(), 0))
        assert ready, "the terminal stayed open"
        try:
            if not os.read(terminal, 65_536):
                return
        except OSError:  # Linux's way of saying that nobody holds the other side
            return
