"""What every sandbox driver does, whatever it is made of. `test_contract.py` runs it for each of them."""

# ruff: noqa: ASYNC110 - what happens inside a sandbox can only be asked for
from __future__ import annotations

import hashlib
import secrets
from functools import partial

import anyio
import anyio.lowlevel
import pytest

from mcp_spaces.errors import (
    Conflict,
    InvalidInput,
    NotFound,
    RuntimeUnavailable,
    SpacesError,
    TimedOut,
    WrongState,
)
from mcp_spaces.sandbox.port import Command, FileKind, Sandbox, SandboxDriver, SandboxSpec, TerminalSize
from tests.sandbox.rigs import PATIENCE_S, SMALL, Output, eventually_empty, run, sandbox_of, shell, start

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

    async def test_a_kill_finds_the_command_whatever_variables_it_was_given(self, sandbox: Sandbox) -> None:
        output = Output()
        process = await start(
            sandbox, "sh", "-c", "echo up; sleep 43.5", output=output, env={"MCP_SPACES_COMMAND": "another"}
        )
        await output.until(b"up")
        with anyio.fail_after(PATIENCE_S):
            await process.kill()
        assert b"43.5" not in (await run(sandbox, "sh", "-c", SEEN)).stdout

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


class Files:
    async def test_what_is_written_is_read(self, sandbox: Sandbox) -> None:
        content = bytes(range(256))
        written = await sandbox.write_file("folder/in/file.bin", content, overwrite=False)
        read = await sandbox.read_file("folder/in/file.bin", limit=1000)
        assert read.content == content
        assert (written.path, written.size_bytes, read.size_bytes) == ("folder/in/file.bin", 256, 256)

    async def test_a_large_file_goes_both_ways(self, sandbox: Sandbox) -> None:
        content = bytes(range(256)) * 4096 * 3
        await sandbox.write_file("large", content, overwrite=False)
        assert (await sandbox.read_file("large", limit=len(content))).content == content

    async def test_an_empty_file_is_a_file(self, sandbox: Sandbox) -> None:
        await sandbox.write_file("empty", b"", overwrite=False)
        assert (await sandbox.read_file("empty", limit=10)).content == b""

    async def test_ranges_of_a_file(self, sandbox: Sandbox) -> None:
        await sandbox.write_file("digits", b"0123456789", overwrite=False)
        assert (await sandbox.read_file("digits", offset=3, limit=4)).content == b"3456"
        assert (await sandbox.read_file("digits", offset=8, limit=100)).content == b"89"
        assert (await sandbox.read_file("digits", offset=50, limit=5)).content == b""

    async def test_a_missing_file_is_not_found(self, sandbox: Sandbox) -> None:
        for ask in (sandbox.read_file("gone", limit=1), sandbox.stat("gone"), sandbox.delete_file("gone")):
            with pytest.raises(NotFound):
                await ask

    async def test_a_folder_is_no_file(self, sandbox: Sandbox) -> None:
        await sandbox.write_file("folder/file", b"", overwrite=False)
        with pytest.raises(WrongState):
            await sandbox.read_file("folder", limit=1)
        with pytest.raises(WrongState):
            await sandbox.write_file("folder", b"", overwrite=True)
        with pytest.raises(WrongState):
            await sandbox.write_file("folder/file/below", b"", overwrite=True)

    async def test_a_file_is_not_replaced_unasked(self, sandbox: Sandbox) -> None:
        await sandbox.write_file("file", b"first", overwrite=False)
        with pytest.raises(Conflict):
            await sandbox.write_file("file", b"second", overwrite=False)
        assert (await sandbox.read_file("file", limit=10)).content == b"first"

    async def test_a_replaced_file_keeps_its_mode(self, sandbox: Sandbox) -> None:
        await sandbox.write_file("script", b"first", overwrite=False)
        await run(sandbox, "chmod", "750", "script")
        written = await sandbox.write_file("script", b"second", overwrite=True)
        assert written.executable
        assert (await run(sandbox, "stat", "-c", "%a", "script")).stdout == b"750\n"

    async def test_an_edit_wants_what_it_was_based_on(self, sandbox: Sandbox) -> None:
        await sandbox.write_file("file", b"first", overwrite=False)
        based_on = hashlib.sha256(b"first").hexdigest()
        await sandbox.write_file("file", b"second", overwrite=True, base_sha256=based_on)
        with pytest.raises(Conflict):
            await sandbox.write_file("file", b"third", overwrite=True, base_sha256=based_on)
        with pytest.raises(Conflict):
            await sandbox.write_file("new", b"x", overwrite=True, base_sha256=based_on)
        assert (await sandbox.read_file("file", limit=10)).content == b"second"

    async def test_names_may_hold_almost_anything(self, sandbox: Sandbox) -> None:
        names = ["a b", "-rf", "é", "quote'\"", "new\nline", "$(id)", "*", "\\", "~", "tab\t"]
        for name in names:
            await sandbox.write_file(f"names/{name}", name.encode(), overwrite=False)
        for name in names:
            assert (await sandbox.read_file(f"names/{name}", limit=100)).content == name.encode()
        listed = await sandbox.list_files("names")
        assert {entry.path for entry in listed.entries} == {f"names/{name}" for name in names}

    async def test_a_write_that_is_taken_back_while_it_compares_harms_nobody(self, sandbox: Sandbox) -> None:
        large = 48 << 20
        await shell(sandbox, f"truncate -s {large} one other")
        based_on = hashlib.sha256(bytes(large)).hexdigest()
        async with anyio.create_task_group() as writing:
            writing.start_soon(partial(sandbox.write_file, "one", b"new", overwrite=True, base_sha256=based_on))
            await anyio.lowlevel.checkpoint()
            # Whoever answers this has heard of the write, and is at it.
            await sandbox.usage()
            writing.cancel_scope.cancel()
        # Begun later and as long, so it ends later.
        await sandbox.write_file("other", b"new", overwrite=True, base_sha256=based_on)
        assert (await sandbox.read_file("other", limit=10)).content == b"new"

    async def test_a_write_that_is_taken_back_leaves_nothing_of_it(self, sandbox: Sandbox) -> None:
        for after_s in (0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3):
            with anyio.move_on_after(after_s):
                await sandbox.write_file("folder/large", bytes(8 << 20), overwrite=True)
        await eventually_empty(sandbox, "find . -name '.mcp-spaces-part-*'")

    async def test_a_path_may_name_the_workspace(self, sandbox: Sandbox) -> None:
        await sandbox.write_file("/workspace/x/./y", b"1", overwrite=False)
        assert (await sandbox.stat("x//y")).path == "x/y"

    async def test_paths_that_lead_outside_are_refused(self, sandbox: Sandbox) -> None:
        for path in ("../x", "a/../../x", "/etc/passwd", "/workspacex", "/workspace/../etc/passwd"):
            for ask in (
                sandbox.read_file(path, limit=1),
                sandbox.write_file(path, b"", overwrite=True),
                sandbox.delete_file(path),
                sandbox.stat(path),
            ):
                with pytest.raises((WrongState, NotFound)):
                    await ask

    async def test_paths_that_no_file_can_have_are_refused(self, sandbox: Sandbox) -> None:
        for path in ("a\0b", "", "\ud800", "x" * 256, "x/" * 300 + "x", "y" * 5000):
            with pytest.raises(InvalidInput):
                await sandbox.stat(path)

    async def test_links_inside_are_followed_for_reading(self, sandbox: Sandbox) -> None:
        await sandbox.write_file("real/file", b"content", overwrite=False)
        await shell(sandbox, 'ln -s real/file link; ln -s real folder; ln -s "$(pwd)/real/file" absolute')
        for path in ("link", "folder/file", "absolute"):
            read = await sandbox.read_file(path, limit=100)
            assert (read.content, read.resolved_path) == (b"content", "real/file")

    async def test_links_are_never_written_through(self, sandbox: Sandbox) -> None:
        await sandbox.write_file("real/file", b"content", overwrite=False)
        await shell(sandbox, "ln -s real/file link; ln -s real folder; ln -s nowhere dangling")
        for path in ("link", "folder/file", "folder/new", "dangling"):
            with pytest.raises(WrongState):
                await sandbox.write_file(path, b"changed", overwrite=True)
        assert (await sandbox.read_file("real/file", limit=100)).content == b"content"

    async def test_a_link_is_deleted_and_not_what_it_points_to(self, sandbox: Sandbox) -> None:
        await sandbox.write_file("real/file", b"content", overwrite=False)
        await shell(sandbox, "ln -s real folder; ln -s real/file link")
        assert await sandbox.delete_file("folder", recursive=True) == 1
        assert await sandbox.delete_file("link") == 1
        assert (await sandbox.stat("real/file")).size_bytes == 7

    async def test_a_fifo_is_neither_read_nor_written(self, sandbox: Sandbox) -> None:
        await shell(sandbox, "mkfifo fifo")
        assert (await sandbox.stat("fifo")).kind is FileKind.OTHER
        with anyio.fail_after(PATIENCE_S / 3):
            with pytest.raises(WrongState):
                await sandbox.read_file("fifo", limit=1)
            with pytest.raises(WrongState):
                await sandbox.write_file("fifo", b"", overwrite=True)

    async def test_a_folder_goes_only_when_that_is_said(self, sandbox: Sandbox) -> None:
        await shell(
            sandbox, "mkdir -p tree/a/b/c; touch tree/1 tree/a/2 tree/a/b/3; mkdir tree/locked; chmod 500 tree/a"
        )
        with pytest.raises(WrongState):
            await sandbox.delete_file("tree")
        assert await sandbox.delete_file("tree", recursive=True) == 8
        with pytest.raises(NotFound):
            await sandbox.stat("tree")

    async def test_the_workspace_itself_cannot_be_deleted(self, sandbox: Sandbox) -> None:
        with pytest.raises(WrongState):
            await sandbox.delete_file(".", recursive=True)

    async def test_stat_tells_kinds_apart(self, sandbox: Sandbox) -> None:
        await sandbox.write_file("folder/file", b"123", overwrite=False)
        file, folder = await sandbox.stat("folder/file"), await sandbox.stat("folder")
        assert (file.kind, file.size_bytes, file.executable) == (FileKind.FILE, 3, False)
        assert folder.kind is FileKind.DIRECTORY
        assert (await sandbox.stat(".")).kind is FileKind.DIRECTORY
        assert file.modified_at > 1_600_000_000

    async def test_listing_goes_as_deep_as_asked(self, sandbox: Sandbox) -> None:
        await shell(sandbox, "mkdir -p a/b; touch a/b/deep a/x top; ln -s a link")
        flat, deep = await sandbox.list_files("."), await sandbox.list_files(".", depth=3)
        assert [entry.path for entry in flat.entries] == ["a", "link", "top"]
        assert [entry.path for entry in deep.entries] == ["a", "a/b", "a/b/deep", "a/x", "link", "top"]
        assert flat.entries[1].kind is FileKind.LINK
        assert [entry.path for entry in (await sandbox.list_files("a/b")).entries] == ["a/b/deep"]

    async def test_a_listing_says_when_it_was_cut(self, sandbox: Sandbox) -> None:
        await shell(sandbox, "touch 1 2 3 4")
        cut, whole = await sandbox.list_files(".", limit=3), await sandbox.list_files(".", limit=4)
        assert ([entry.path for entry in cut.entries], cut.truncated) == (["1", "2", "3"], True)
        assert (len(whole.entries), whole.truncated) == (4, False)

    async def test_listing_a_file_or_nothing_is_an_error(self, sandbox: Sandbox) -> None:
        await sandbox.write_file("file", b"", overwrite=False)
        with pytest.raises(WrongState):
            await sandbox.list_files("file")
        with pytest.raises(NotFound):
            await sandbox.list_files("gone")

    async def test_globs(self, sandbox: Sandbox) -> None:
        await shell(sandbox, "mkdir -p a/b .git; touch a/x.py a/b/y.py a/b/y.txt z.py .git/g.py a/.h.py")
        found = {
            pattern: [entry.path for entry in (await sandbox.glob(pattern)).entries]
            for pattern in ("*.py", "**/*.py", "a/**", "a/*/y.*", "a/[x-z].py", "?.py", "none")
        }
        assert found == {
            "*.py": ["z.py"],
            "**/*.py": ["a/.h.py", "a/b/y.py", "a/x.py", "z.py"],
            "a/**": ["a/.h.py", "a/b/y.py", "a/b/y.txt", "a/x.py"],
            "a/*/y.*": ["a/b/y.py", "a/b/y.txt"],
            "a/[x-z].py": ["a/x.py"],
            "?.py": ["z.py"],
            "none": [],
        }

    async def test_searching_finds_lines(self, sandbox: Sandbox) -> None:
        await sandbox.write_file("a/one.py", b"import os\nprint(os)\n", overwrite=False)
        await sandbox.write_file("two.txt", b"no\nimport this", overwrite=False)
        await sandbox.write_file(".git/three.py", b"import git\n", overwrite=False)
        await sandbox.write_file("binary", b"import\0", overwrite=False)
        found = await sandbox.search("^import +[a-z]+$")
        assert [(match.path, match.line, match.text) for match in found.matches] == [
            ("a/one.py", 1, "import os"),
            ("two.txt", 2, "import this"),
        ]
        assert [match.path for match in (await sandbox.search("import", glob="**/*.py")).matches] == ["a/one.py"]
        assert [match.line for match in (await sandbox.search("os", path="a")).matches] == [1, 2]

    async def test_a_search_says_when_it_was_cut(self, sandbox: Sandbox) -> None:
        await sandbox.write_file("many", b"x\n" * 10, overwrite=False)
        found = await sandbox.search("x", limit=4)
        assert (len(found.matches), found.truncated) == (4, True)

    async def test_an_expression_that_does_not_compile_is_refused(self, sandbox: Sandbox) -> None:
        with pytest.raises(InvalidInput):
            await sandbox.search("(")

    async def test_a_search_that_takes_too_long_is_stopped(self, sandbox: Sandbox) -> None:
        await sandbox.write_file("slow", b"a" * 5000 + b"!", overwrite=False)
        with anyio.fail_after(PATIENCE_S), pytest.raises(TimedOut):
            await sandbox.search("(a+)+$", timeout_s=0.3)
        assert (await shell(sandbox, "echo still here")).stdout == b"still here\n"


class Lives:
    async def test_usage_is_counted(self, sandbox: Sandbox) -> None:
        await sandbox.write_file("file", bytes(1 << 20), overwrite=False)
        usage = await sandbox.usage()
        assert usage.disk_bytes >= 1 << 20
        assert usage.memory_bytes >= 0
        assert usage.pids >= 1

    async def test_files_survive_a_stop(self, driver: SandboxDriver, image: str) -> None:
        async with sandbox_of(driver, image=image) as first:
            assert first.new_workspace
            await first.write_file("kept", b"still", overwrite=False)
        async with sandbox_of(driver, image=image) as second:
            assert not second.new_workspace
            assert (await second.read_file("kept", limit=10)).content == b"still"

    async def test_a_deleted_workspace_is_gone_for_good(self, driver: SandboxDriver, image: str) -> None:
        async with sandbox_of(driver, image=image) as first:
            await first.write_file("kept", b"still", overwrite=False)
        await driver.delete_workspace("runtime")
        await driver.delete_workspace("runtime")
        async with sandbox_of(driver, image=image) as second:
            assert second.new_workspace
            assert (await second.list_files(".")).entries == ()

    async def test_runtimes_do_not_see_each_others_files(self, driver: SandboxDriver, image: str) -> None:
        async with sandbox_of(driver, runtime_id="one", image=image) as one:
            await one.write_file("secret", b"", overwrite=False)
            async with sandbox_of(driver, runtime_id="two", image=image) as two:
                assert (await two.list_files(".")).entries == ()
                assert one.image_id == two.image_id

    async def test_a_runtime_is_launched_once_at_a_time(self, driver: SandboxDriver, image: str) -> None:
        async with sandbox_of(driver, image=image):
            with pytest.raises(Conflict):
                await driver.launch(SandboxSpec("runtime", image, SMALL))

    async def test_a_runtime_is_launched_again_while_it_is_being_stopped(
        self, driver: SandboxDriver, image: str
    ) -> None:
        first = await driver.launch(SandboxSpec("runtime", image, SMALL))
        async with anyio.create_task_group() as group:
            group.start_soon(first.stop)
            await anyio.lowlevel.checkpoint()
            async with sandbox_of(driver, image=image) as second:
                assert (await shell(second, "echo here")).stdout == b"here\n"

    async def test_stopping_twice_is_no_error_and_says_why_it_is_gone(self, sandbox: Sandbox) -> None:
        await sandbox.stop()
        await sandbox.stop()
        with anyio.fail_after(PATIENCE_S):
            assert await sandbox.closed()

    async def test_a_stopped_sandbox_answers_runtime_unavailable(self, sandbox: Sandbox) -> None:
        process = await start(sandbox, "sleep", "56")
        await sandbox.stop()
        with pytest.raises(RuntimeUnavailable):
            await process.wait()
        for ask in (sandbox.stat("."), sandbox.read_file("x", limit=1), sandbox.usage(), run(sandbox, "true")):
            with pytest.raises(RuntimeUnavailable):
                await ask

    async def test_reaping_frees_what_is_not_kept(self, driver: SandboxDriver, image: str) -> None:
        async with sandbox_of(driver, runtime_id="kept", image=image) as kept:
            async with sandbox_of(driver, runtime_id="left", image=image) as left:
                assert "left" in await driver.reap(keep={"kept"})
                with anyio.fail_after(PATIENCE_S):
                    await left.closed()
            assert (await shell(kept, "echo here")).stdout == b"here\n"
            assert await driver.reap(keep={"kept"}) == []

    async def test_ids_that_are_no_names_are_refused(self, driver: SandboxDriver, image: str) -> None:
        for runtime_id in ("", "../x", "a/b", "x" * 100, "-x", "a b"):
            with pytest.raises(InvalidInput):
                await driver.launch(SandboxSpec(runtime_id, image, SMALL))

    async def test_an_unknown_image_is_an_error_that_says_what_to_do(self, driver: SandboxDriver) -> None:
        with pytest.raises(SpacesError) as caught:
            await driver.launch(SandboxSpec("runtime", "no-such-image:none", SMALL))
        assert "make image" in caught.value.hint

    async def test_walls_are_told(self, driver: SandboxDriver) -> None:
        assert all(wall.name and wall.found for wall in await driver.walls())


class Contract(Commands, Files, Lives):
    """All of it."""
