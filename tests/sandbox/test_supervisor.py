"""What a command finds around it, and what it leaves behind in the agent."""

# ruff: noqa: ASYNC110, ASYNC240 - what happens inside a sandbox can only be asked for
from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest

from mcp_spaces.sandbox.port import Sandbox, TerminalSize
from tests.sandbox.fake import FAKE_IMAGE, FakeDriver
from tests.sandbox.rigs import PATIENCE_S, Output, sandbox_of, shell, start

pytestmark = pytest.mark.anyio
TERMINAL = TerminalSize(24, 80)


@pytest.fixture
async def sandbox(tmp_path: Path) -> AsyncIterator[Sandbox]:
    driver = FakeDriver(tmp_path / "sandboxes")
    async with sandbox_of(driver, image=FAKE_IMAGE) as launched:
        yield launched
    await driver.aclose()


@pytest.mark.parametrize("terminal", [None, TERMINAL], ids=["pipes", "a terminal"])
async def test_a_command_begins_with_no_signal_ignored_or_blocked(
    sandbox: Sandbox, terminal: TerminalSize | None
) -> None:
    output = Output()
    process = await start(sandbox, "grep", "-E", "^Sig(Ign|Blk)", "/proc/self/status", output=output, terminal=terminal)
    await process.wait()
    # Without 32 and 33, which are the C library's own.
    assert [int(line.split()[1], 16) & 0x7FFFFFFF for line in output.stdout.splitlines()] == [0, 0]


@pytest.mark.parametrize("terminal", [None, TERMINAL], ids=["pipes", "a terminal"])
async def test_a_script_without_a_first_line_that_names_its_program_is_the_shells(
    sandbox: Sandbox, terminal: TerminalSize | None
) -> None:
    await sandbox.write_file("script", b'echo "$0 has $1"', overwrite=False)
    await shell(sandbox, "chmod +x script")
    output = Output()
    with anyio.fail_after(PATIENCE_S):
        ended = await (await start(sandbox, "./script", "it", output=output, terminal=terminal)).wait()
    assert (ended.exit_code, bytes(output.stdout).split()) == (0, [b"./script", b"has", b"it"])


async def test_the_kernel_ends_a_command_before_the_agent_for_want_of_memory(sandbox: Sandbox) -> None:
    assert (await shell(sandbox, "cat /proc/self/oom_score_adj")).stdout == b"1000\n"


async def test_a_command_has_no_descriptors_but_its_three(sandbox: Sandbox) -> None:
    for terminal in (None, TERMINAL):
        output = Output()
        # The fourth is that of the folder which it lists.
        process = await start(sandbox, "ls", "/proc/self/fd", output=output, terminal=terminal)
        await process.wait()
        assert output.stdout.split() == [b"0", b"1", b"2", b"3"]


async def test_commands_leave_no_descriptor_open_in_the_agent(sandbox: Sandbox) -> None:
    opened = Path(f"/proc/{sandbox.container_id.removeprefix('fake-')}/fd")

    async def some() -> None:
        # More at a time than there are supervisors that wait.
        sleeping = [await start(sandbox, "sleep", "1000", terminal=each) for each in (None, TERMINAL) * 3]
        for process in sleeping:
            await process.kill()
        assert len((await shell(sandbox, "echo " + "x" * 40_000)).stdout) == 40_001
        await shell(sandbox, "sleep 1000 & kill -9 $PPID")

    await some()
    with anyio.fail_after(PATIENCE_S):
        fewest = len(list(opened.iterdir()))
        for _ in range(3):
            await some()
        while len(list(opened.iterdir())) > fewest + 2:
            await anyio.sleep(0.01)
