"""A command becomes one call of one tool, and its answer comes back whole."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import anyio
import pytest
from anyio.abc import SocketStream

from mcp_spaces import places
from tests.browser.site.certificates import Certificates
from tests.cli.commands import MAIN, PATIENCE_S, ROOT, environment, run, small_house
from tests.security.app import short_folder
from tests.server.small_app import KEY

pytestmark = pytest.mark.anyio


async def test_an_answer_comes_back_as_one_json_document() -> None:
    async with small_house() as house:
        ended = await run(
            "operation", "call", "thing.echo", "--input", "text=hé", "--input", "times=2", "--json",
            state_dir=house.settings.state_dir,
        )  # fmt: skip
    assert (ended.code, ended.json(), ended.stderr) == (0, {"text": "héhé"}, "")


async def test_a_mapping_may_come_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "input.json"
    file.write_text('{"text": "from a file"}')
    async with small_house() as house:
        ended = await run(
            "operation", "call", "thing.echo", "--input", f"@{file}", "--json", state_dir=house.settings.state_dir
        )
    assert ended.json() == {"text": "from a file"}


async def test_a_refusal_says_why_and_what_to_do_and_ends_with_1() -> None:
    async with small_house() as house:
        ended = await run("operation", "call", "thing.refuse", state_dir=house.settings.state_dir)
    assert ended.code == 1
    assert ended.stderr == "error: No \\x1b[2Jshell here.\nhint: Read files instead.\n"
    assert ended.stdout == ""


async def test_with_json_a_refusal_is_a_document_too() -> None:
    async with small_house() as house:
        ended = await run("operation", "call", "thing.refuse", "--json", state_dir=house.settings.state_dir)
    assert ended.code == 1
    assert ended.json()["error"] | {"message": ""} == {
        "code": "denied",
        "message": "",
        "hint": "Read files instead.",
        "retryable": False,
        "details": {"rule": "shell.commands"},
    }


async def test_a_command_line_that_does_not_fit_ends_with_2_and_calls_nothing() -> None:
    async with small_house() as house:
        ended = await run("key", "create", state_dir=house.settings.state_dir)
        assert house.app.bench.calls == []
    assert ended.code == 2
    assert "LABEL" in ended.stderr


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("key create", ()),
        ("key create", ("ci", "--expires-in-s", "soon")),
        ("runs", ("--limit", "0")),
        ("list", ("--nope",)),
    ],
)
async def test_with_json_a_command_line_that_does_not_fit_is_a_document_too(
    command: str, words: tuple[str, ...]
) -> None:
    ended = await run(*command.split(), *words, "--json", state_dir="/nonexistent")
    assert ended.code == 2
    assert ended.json()["error"]["code"] == "invalid_input"
    assert ended.json()["error"]["hint"].endswith(f"{command} --help")


async def test_a_text_where_an_object_is_needed_is_said_in_plain_words() -> None:
    ended = await run("space", "create", "work", "--policy", "permissive", "--json", state_dir="/nonexistent")
    assert (ended.code, ended.json()["error"]["message"]) == (
        2,
        "Invalid value: space.create: policy has to be an object. In policy: preset?, overrides?.",
    )


async def test_an_unknown_verb_is_answered_with_the_right_one() -> None:
    ended = await run("space", "delet", state_dir="/nonexistent")
    assert ended.code == 2
    assert "Did you mean 'delete'?" in ended.stderr


async def test_ctrl_c_cancels_the_call_at_the_daemon() -> None:
    async with small_house() as house:
        command = [*MAIN, "operation", "call", "thing.wait"]
        async with await anyio.open_process(command, env=environment(house.settings.state_dir), cwd=ROOT) as process:
            with anyio.fail_after(PATIENCE_S):
                await house.app.bench.waiting.wait()
                process.send_signal(signal.SIGINT)
                await house.app.bench.cancelled.wait()
                assert await process.wait() == 130


async def test_a_daemon_that_is_stopped_during_a_call_says_so_and_ends_with_3() -> None:
    async with small_house() as house:
        command = [*MAIN, "operation", "call", "thing.wait"]
        process = await anyio.open_process(command, env=environment(house.settings.state_dir), cwd=ROOT)
        with anyio.fail_after(PATIENCE_S):
            await house.app.bench.waiting.wait()
    async with process:
        with anyio.fail_after(PATIENCE_S):
            assert await process.wait() == 3
            assert process.stderr is not None
            said = (await process.stderr.receive()).decode()
    assert said == "error: The daemon stopped before it answered.\nhint: How far it came: mcp-spaces runs\n"


async def test_ctrl_c_while_a_command_is_still_being_loaded_ends_it_quietly() -> None:
    interrupted = """
import importlib.abc, os, signal, sys
class CtrlC(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "typer":
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, CtrlC())
sys.argv = ["mcp-spaces", "list"]
from mcp_spaces.__main__ import main
main()
"""
    ended = await anyio.run_process([sys.executable, "-c", interrupted], check=False, cwd=ROOT)
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, b"", b"")


@pytest.mark.parametrize("as_json", [(), ("--json",)], ids=["table", "json"])
async def test_an_answer_that_cannot_be_written_says_so_and_ends_with_1(as_json: tuple[str, ...]) -> None:
    async with small_house() as house, await anyio.open_file("/dev/full", "wb") as full:
        ended = await anyio.run_process(
            [*MAIN, "operation", "call", "thing.echo", "--input", "text=hi", *as_json],
            stdout=full.wrapped,
            check=False,
            env=environment(house.settings.state_dir),
            cwd=ROOT,
        )
    assert (ended.returncode, ended.stderr.decode().splitlines()) == (
        1,
        [
            "error: No space left on device.",
            "hint: What was asked for may be done all the same: mcp-spaces runs",
        ],
    )


async def test_over_http_the_same_call_takes_a_key(tmp_path: Path) -> None:
    key_file = tmp_path / "key"
    key_file.write_text(KEY + "\n")
    key_file.chmod(0o600)
    async with small_house() as house:
        ended = await run(
            "--server", house.url, "--key-file", str(key_file), "operation", "call", "thing.echo", "--input", "text=far",
            "--json", state_dir="/nonexistent",
        )  # fmt: skip
    assert (ended.code, ended.json(), ended.stderr) == (0, {"text": "far"}, "")


async def test_over_http_progress_and_the_answer_come_in_one_stream() -> None:
    async with small_house() as house:
        ended = await run(
            "--server", house.url, "operation", "call", "thing.report", "--json",
            state_dir="/nonexistent", env={"MCP_SPACES_KEY": KEY},
        )  # fmt: skip
    assert (ended.code, ended.json()) == (0, {"text": "reported"})


async def test_a_key_that_is_not_valid_is_refused() -> None:
    async with small_house() as house:
        ended = await run("--server", house.url, "list", state_dir="/nonexistent", env={"MCP_SPACES_KEY": "msp_wrong"})
    assert ended.code == 1
    assert "key is not valid" in ended.stderr


async def test_a_key_never_travels_in_clear_text() -> None:
    ended = await run("--server", "http://192.0.2.1/mcp", "list", state_dir="/nonexistent", env={"MCP_SPACES_KEY": KEY})
    assert ended.code == 1
    assert "clear text" in ended.stderr


async def test_a_key_file_that_is_not_there_is_named_in_plain_words(tmp_path: Path) -> None:
    ended = await run(
        "--server",
        "http://127.0.0.1:9/mcp",
        "--key-file",
        f"{tmp_path}/key",
        "list",
        "--json",
        state_dir="/nonexistent",
    )
    said = ended.json()["error"]
    assert (ended.code, said["code"]) == (1, "unauthenticated")
    assert said["message"] == f"{tmp_path}/key cannot be read: No such file or directory."


async def test_a_server_that_does_not_answer_ends_with_3() -> None:
    ended = await run(
        "--server", "http://127.0.0.1:9/mcp", "list", state_dir="/nonexistent", env={"MCP_SPACES_KEY": KEY}
    )
    assert ended.code == 3
    assert ended.stderr.startswith("error: http://127.0.0.1:9/mcp does not answer: Connection refused.\n")


async def test_a_certificate_that_nobody_vouches_for_is_said_with_what_to_do(tmp_path: Path) -> None:
    made = Certificates.make(["127.0.0.1"])
    certificate, key, authority = (tmp_path / name for name in ("leaf.pem", "key.pem", "ca.pem"))
    certificate.write_bytes(made.leaf_pem)
    key.write_bytes(made.key_pem)
    authority.write_bytes(made.ca_pem)
    env = {"MCP_SPACES_KEY": KEY}
    async with small_house(http_tls_certificate=certificate, http_tls_key=key) as house:
        words = ("--server", house.url, "operation", "call", "thing.echo", "--input", "text=hi", "--json")
        refused = await run(*words, state_dir="/nonexistent", env=env)
        trusted = await run(*words, state_dir="/nonexistent", env={**env, "SSL_CERT_FILE": str(authority)})
    assert refused.code == 3
    assert "certificate verify failed" in refused.stderr and "SSL_CERT_FILE" in refused.stderr
    assert (trusted.code, trusted.json()) == (0, {"text": "hi"})


async def test_a_daemon_that_is_killed_during_a_call_leads_to_the_record_of_it() -> None:
    async def hang_up(stream: SocketStream) -> None:
        await stream.receive()
        await stream.aclose()

    with short_folder() as folder:
        listener = await anyio.create_unix_listener(places.operator_socket(str(folder)))
        async with listener, anyio.create_task_group() as tasks:
            tasks.start_soon(listener.serve, hang_up)
            ended = await run("list", state_dir=folder)
            tasks.cancel_scope.cancel()
    assert ended.code == 3
    assert ended.stderr.splitlines() == [
        "error: The daemon closed the connection before it answered.",
        f"hint: How far it came: mcp-spaces runs. Why it ended: {folder}/daemon.log",
    ]


async def test_a_daemon_that_cannot_start_ends_with_3(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir(mode=0o755)
    ended = await run("list", state_dir=tmp_path / "state")
    assert ended.code == 3
    assert "chmod 700" in ended.stderr


async def test_with_json_a_daemon_that_cannot_start_is_a_document_too(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir(mode=0o755)
    ended = await run("list", "--json", state_dir=tmp_path / "state")
    assert ended.code == 3
    assert ended.json()["error"]["code"] == "no_daemon"
    assert "chmod 700" in ended.json()["error"]["message"]


async def test_a_state_directory_that_cannot_be_made_ends_with_3_and_no_traceback() -> None:
    ended = await run("list", state_dir="/proc/state")
    assert ended.code == 3
    assert "/proc/state cannot be written: " in ended.stderr
    assert "Traceback" not in ended.stderr
