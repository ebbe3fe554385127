"""What every sandbox driver does with commands: their answers, their ends, and what they leave behind."""

# ruff: noqa: ASYNC110 - what happens inside a sandbox can only be asked for
from __future__ import annotations

import hashlib
import secrets

import anyio
import anyio.lowlevel
import pytest

from mcp_spaces.errors import InvalidInput, NotFound, WrongState
from mcp_spaces.sandbox.port import Command, Sandbox, TerminalSize
from tests.sandbox.rigs import PATIENCE_S, Output, run, shell, start

SEEN = "ps -eo args 2>/dev/null || cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' '"


class Commands:
    async def test_a_command_reports_its_exit_code(self, sandbox: Sandbox) -> None:
        assert (await shell(sandbox, "exit 7")).exit.exit_code == 7

    async def test_a_signal_shows_as_128_and_its_number(self, sandbox: Sandbox) -> None:
        assert (await shell(sandbox, "kill -TERM $$")).exit.exit_code == 128 + 15

    async def test_stdout_and_stderr_come_apart(self, sandbox: Sandbox) -> None:
        ran = await shell(sandbox, "echo out; echo err >&2")
        assert (ran.stdout, ran.stderr) == (b"out\n", b"err\n")

    async def test_output_is_bytes_and_none_is_lost(self, sandbox: Sandbox) -> None:
        ran = await shell(sandbox, "printf 'a\\000\\377b'; head -c 300000 /dev/zero")
        assert ran.stdout == b"a\0\xffb" + bytes(300000)

    async def test_arguments_arrive_as_they_were_given(self, sandbox: Sandbox) -> None:
        arguments = ["", " ", "a b", "'\"$HOME`id`\\", "-n", "é\u202e\n", "*"]
        ran = await run(sandbox, "printf", "%s|", *arguments)
        assert ran.stdout.decode() == "".join(argument + "|" for argument in arguments)

    async def test_a_command_starts_in_the_workspace(self, sandbox: Sandbox) -> None:
        await sandbox.write_file("here.txt", b"yes", overwrite=False)
        assert (await run(sandbox, "cat", "here.txt")).stdout == b"yes"

    async def test_a_command_starts_in_the_folder_that_it_names(self, sandbox: Sandbox) -> None:
        await sandbox.write_file("a/b/here.txt", b"deep", overwrite=False)
        assert (await run(sandbox, "cat", "here.txt", cwd="a/b")).stdout == b"deep"

    async def test_a_missing_folder_to_start_in_is_not_found(self, sandbox: Sandbox) -> None:
        with pytest.raises(NotFound, match=r"There is no a/nowhere\."):
            await run(sandbox, "true", cwd="a/nowhere")

    async def test_environment_is_added(self, sandbox: Sandbox) -> None:
        ran = await run(sandbox, "sh", "-c", 'printf %s "$GREETING|$PATH"', env={"GREETING": "a b\n'\"$x"})
        greeting, _, path = ran.stdout.decode().partition("|")
        assert greeting == "a b\n'\"$x"
        assert "/bin" in path

    async def test_a_program_that_is_missing_exits_with_127(self, sandbox: Sandbox) -> None:
        assert (await run(sandbox, "no-such-program")).exit.exit_code == 127

    async def test_a_program_that_may_not_run_exits_with_126(self, sandbox: Sandbox) -> None:
        await sandbox.write_file("plain.txt", b"#!/bin/sh\n", overwrite=False)
        assert (await run(sandbox, "./plain.txt")).exit.exit_code == 126

    async def test_programs_in_the_workspace_run(self, sandbox: Sandbox) -> None:
        await sandbox.write_file("tool", b"#!/bin/sh\necho ran $1\n", overwrite=False)
        await run(sandbox, "chmod", "+x", "tool")
        assert (await run(sandbox, "./tool", "well")).stdout == b"ran well\n"

    async def test_an_empty_command_is_refused(self, sandbox: Sandbox) -> None:
        with pytest.raises(InvalidInput):
            await run(sandbox)

    async def test_a_nul_in_an_argument_is_refused(self, sandbox: Sandbox) -> None:
        with pytest.raises(InvalidInput):
            await run(sandbox, "echo", "a\0b")

    async def test_stdin_reaches_the_command_and_ends(self, sandbox: Sandbox) -> None:
        output = Output()
        process = await start(sandbox, "cat", output=output)
        await process.write(b"one ")
        await process.write(b"two")
        await process.close_stdin()
        with anyio.fail_after(PATIENCE_S):
            assert (await process.wait()).exit_code == 0
        assert output.stdout == b"one two"

    async def test_much_stdin_goes_through(self, sandbox: Sandbox) -> None:
        content = bytes(range(256)) * 8192
        output = Output()
        process = await start(sandbox, "sha256sum", output=output)
        with anyio.fail_after(PATIENCE_S):
            await process.write(content)
            await process.close_stdin()
            await process.wait()
        assert output.stdout[:64].decode() == hashlib.sha256(content).hexdigest()

    async def test_writing_to_a_closed_stdin_is_wrong_state(self, sandbox: Sandbox) -> None:
        process = await start(sandbox, "cat")
        await process.close_stdin()
        with pytest.raises(WrongState):
            await process.write(b"more")
        await process.wait()

    async def test_a_command_that_is_not_fed_finds_the_end_of_its_input(self, sandbox: Sandbox) -> None:
        output = Output()
        process = await sandbox.start(
            Command(["sh", "-c", "cat; test -p /dev/stdin || echo none"], stdin=False), output=output
        )
        with anyio.fail_after(PATIENCE_S):
            assert (await process.wait()).exit_code == 0
        assert output.stdout == b"none\n"
        with pytest.raises(WrongState):
            await process.write(b"late")

    async def test_many_commands_run_at_a_time(self, sandbox: Sandbox) -> None:
        first, answers = Output(), []
        waiting = await start(sandbox, "sh", "-c", "echo on; cat", output=first)
        await first.until(b"on")

        async def one(number: int) -> None:
            answers.append((await shell(sandbox, f"echo {number}")).stdout)

        async with anyio.create_task_group() as group:
            for number in range(8):
                group.start_soon(one, number)
        assert sorted(answers) == [b"%d\n" % number for number in range(8)]
        await waiting.kill()

    async def test_a_second_wait_answers_the_same(self, sandbox: Sandbox) -> None:
        process = await start(sandbox, "sh", "-c", "exit 3")
        assert await process.wait() == await process.wait()

    async def test_a_background_process_does_not_hold_the_command_up(self, sandbox: Sandbox) -> None:
        with anyio.fail_after(PATIENCE_S / 2):
            ran = await shell(sandbox, "sleep 59 & echo done")
        assert ran.stdout == b"done\n"

    async def test_a_background_process_goes_on(self, sandbox: Sandbox) -> None:
        await shell(sandbox, "(until test -e go; do sleep 0.02; done; echo on > went) >/dev/null 2>&1 &")
        await sandbox.write_file("go", b"", overwrite=False)
        with anyio.fail_after(PATIENCE_S):
            while (await sandbox.list_files(".")).entries[-1].path != "went":
                await anyio.sleep(0.02)

    async def test_a_kill_ends_the_command_and_keeps_its_output(self, sandbox: Sandbox) -> None:
        output = Output()
        process = await start(sandbox, "sh", "-c", "echo begun; sleep 58", output=output)
        await output.until(b"begun\n")
        with anyio.fail_after(PATIENCE_S):
            await process.kill()
            assert (await process.wait()).exit_code == 137
        assert output.stdout == b"begun\n"

    async def test_a_kill_ends_all_that_the_command_started(self, sandbox: Sandbox) -> None:
        output = Output()
        # Not any other's on this machine: the fake has no processes of its own to list.
        seconds = f"41.{secrets.randbelow(10**9):09}5"
        script = f"sleep {seconds} & setsid sleep {seconds} & echo up; wait"
        process = await start(sandbox, "sh", "-c", script, output=output)
        await output.until(b"up")
        await process.kill()
        assert seconds.encode() not in (await run(sandbox, "sh", "-c", SEEN)).stdout

    async def test_a_kill_ends_a_process_whose_first_thread_has_ended(self, sandbox: Sandbox) -> None:
        output, name = Output(), f"WHO={secrets.token_hex(12)}"
        # It looks like a zombie, and its other thread runs on.
        script = (
            "use threads; use POSIX; $| = 1; threads->create(sub {"
            r"1 until do { open F, qq(/proc/$$/stat); <F> } =~ /\) Z/; print qq(up\n); sleep 1 while 1; })->detach();"
            "syscall((uname)[4] eq 'x86_64' ? 60 : 93, 0);"
        )
        first = f'env {name} setsid perl -e "{script.replace("$", chr(92) + "$")}" &'
        process = await start(sandbox, "sh", "-c", f"({first}); sleep 60", output=output)
        await output.until(b"up")
        running = ["sh", "-c", f"cat /proc/[0-9]*/task/[0-9]*/environ 2>/dev/null | grep -c '{name[:-1]}[{name[-1]}]'"]
        assert (await run(sandbox, *running)).stdout == b"1\n"
        with anyio.fail_after(PATIENCE_S):
            await process.kill()
        assert (await run(sandbox, *running)).stdout == b"0\n"

    async def test_a_kill_of_what_has_ended_ends_what_it_left_behind(self, sandbox: Sandbox) -> None:
        seconds = f"42.{secrets.randbelow(10**9):09}5"
        process = await start(sandbox, "sh", "-c", f"setsid sleep {seconds} >/dev/null 2>&1 &")
        await process.wait()
        assert seconds.encode() in (await run(sandbox, "sh", "-c", SEEN)).stdout
        with anyio.fail_after(PATIENCE_S):
            await process.kill()
        assert seconds.encode() not in (await run(sandbox, "sh", "-c", SEEN)).stdout

    async def test_a_kill_finds_the_command_whatever_variables_it_was_given(self, sandbox: Sandbox) -> None:
        output, seconds = Output(), f"43.{secrets.randbelow(10**9):09}5"
        process = await start(
            sandbox, "sh", "-c", f"echo up; sleep {seconds}", output=output, env={"MCP_SPACES_COMMAND": "another"}
        )
        await output.until(b"up")
        with anyio.fail_after(PATIENCE_S):
            await process.kill()
        assert seconds.encode() not in (await run(sandbox, "sh", "-c", SEEN)).stdout

    async def test_a_kill_touches_nothing_else(self, sandbox: Sandbox) -> None:
        output = Output()
        other = await start(sandbox, "sh", "-c", "echo on; read line; echo got $line", output=output)
        await output.until(b"on\n")
        process = await start(sandbox, "sleep", "57")
        await process.kill()
        await other.write(b"it\n")
        with anyio.fail_after(PATIENCE_S):
            assert (await other.wait()).exit_code == 0
        assert output.stdout == b"on\ngot it\n"

    async def test_killing_what_has_ended_is_no_error(self, sandbox: Sandbox) -> None:
        process = await start(sandbox, "true")
        await process.wait()
        await process.kill()
        await process.kill()

    async def test_a_terminal_is_one(self, sandbox: Sandbox) -> None:
        output = Output()
        script = "test -t 0 && test -t 1 && stty size; read line; echo got $line"
        process = await start(sandbox, "sh", "-c", script, output=output, terminal=TerminalSize(24, 80))
        await output.until(b"24 80")
        await process.write(b"hello\n")
        with anyio.fail_after(PATIENCE_S):
            assert (await process.wait()).exit_code == 0
        assert b"got hello" in output.stdout

    async def test_a_terminal_is_resized(self, sandbox: Sandbox) -> None:
        output = Output()
        script = "stty size; read line; stty size"
        process = await start(sandbox, "sh", "-c", script, output=output, terminal=TerminalSize(24, 80))
        await output.until(b"24 80")
        await process.resize(TerminalSize(50, 132))
        await process.write(b"\n")
        await output.until(b"50 132")
        await process.wait()
