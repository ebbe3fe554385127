"""Whatever hides from a kill is killed, and nobody but the daemon kills a sandbox's own processes."""

# ruff: noqa: ASYNC110 - what happens inside a sandbox can only be asked for
from __future__ import annotations

import anyio
import pytest

from mcp_spaces.sandbox.port import Sandbox
from tests.sandbox.rigs import PATIENCE_S, Output, eventually_empty, run, shell, start

HIDERS = {
    "a session of its own": "setsid sleep 61.25 & echo up; wait",
    "an empty environment": "env -i setsid sleep 61.25 & echo up; wait",
    "a double fork": "(setsid sh -c 'setsid sleep 61.25 & exit' &); echo up; sleep 60",
    "ignored signals": "trap '' TERM INT HUP; (trap '' TERM INT HUP; sleep 61.25) & echo up; wait",
    "many children": "for i in 1 2 3 4 5 6 7 8 9; do setsid sleep 61.25 & done; echo up; wait",
}


@pytest.mark.parametrize("way", HIDERS)
async def test_nothing_hides_from_a_kill(sandbox: Sandbox, way: str) -> None:
    output = Output()
    process = await start(sandbox, "sh", "-c", HIDERS[way], output=output)
    await output.until(b"up")
    with anyio.fail_after(PATIENCE_S):
        await process.kill()
    assert (await shell(sandbox, "pgrep -f 'sleep 61[.]25'")).stdout == b""


COMET = """
import os, sys
print("up", flush=True)
for fd in (0, 1, 2):
    os.close(fd)
while True:
    if os.fork():
        os._exit(0)
    os.setsid()
"""


async def test_a_process_that_forks_and_exits_without_pause_is_killed(sandbox: Sandbox) -> None:
    output = Output()
    process = await start(sandbox, "python3", "-S", "-c", COMET, output=output)
    await output.until(b"up")
    with anyio.fail_after(PATIENCE_S):
        await process.kill()
    assert (await shell(sandbox, "pgrep -f 'os[.]setsid'")).stdout == b""


async def test_a_command_that_kills_its_supervisor_is_killed_itself(sandbox: Sandbox) -> None:
    other = Output()
    watched = await start(sandbox, "sh", "-c", "echo on; read x; echo $x", output=other)
    await other.until(b"on")
    process = await start(sandbox, "sh", "-c", "setsid sleep 63.5 & kill -9 $PPID; sleep 63.5")
    with anyio.fail_after(PATIENCE_S):
        assert (await process.wait()).exit_code == 137
    await eventually_empty(sandbox, "pgrep -f 'sleep 63[.]5'")
    await watched.write(b"fine\n")
    with anyio.fail_after(PATIENCE_S):
        await watched.wait()
    assert b"fine" in other.stdout


async def test_a_command_that_stops_its_supervisor_is_killed_when_asked(sandbox: Sandbox) -> None:
    output = Output()
    process = await start(sandbox, "sh", "-c", "kill -STOP $PPID; echo stopped; sleep 64.5", output=output)
    await output.until(b"stopped")
    with anyio.fail_after(PATIENCE_S):
        await process.kill()
        assert (await process.wait()).exit_code == 137
    assert (await shell(sandbox, "pgrep -f 'sleep 64[.]5'")).stdout == b""


async def test_killing_everything_in_reach_leaves_the_sandbox_usable(sandbox: Sandbox) -> None:
    # Every supervisor dies with it; process 1 is out of a signal's reach.
    await shell(sandbox, "kill -INT 1; kill -STOP 1; kill -KILL 1; kill -9 -1")
    with anyio.fail_after(PATIENCE_S):
        while (await shell(sandbox, "echo back")).stdout != b"back\n":
            await anyio.sleep(0.02)


async def test_the_agent_is_closed_to_the_commands(sandbox: Sandbox) -> None:
    ran = await shell(
        sandbox, "ls /proc/1/fd; cat /proc/1/mem; cat /proc/1/environ; ls -l /proc/self/fd | grep -c pipe"
    )
    assert ran.stderr.count(b"Permission denied") == 3
    # stdin, stdout and stderr (ls has a pipe to grep for stdout), and nothing of the agent's.
    assert ran.stdout.strip() == b"3"


async def test_a_thousand_commands_leave_no_process_and_no_descriptor(sandbox: Sandbox) -> None:
    await run(sandbox, "true")
    before = (await sandbox.usage()).pids
    for _ in range(1000):
        assert (await run(sandbox, "true")).exit.exit_code == 0
    assert (await sandbox.usage()).pids <= before + 2


async def test_the_agent_is_listed_by_its_name_and_survives_who_kills_every_python(sandbox: Sandbox) -> None:
    listed = (await shell(sandbox, "ps -eo comm=,args=")).stdout.decode().splitlines()
    ours = [line.split() for line in listed if line.startswith("mcp-spaces")]
    assert len(ours) >= 2
    assert all(words == ["mcp-spaces", "mcp-spaces"] for words in ours)
    assert not any("python" in line for line in listed)
    background = await start(sandbox, "sleep", "67.25")
    killed = await shell(
        sandbox, "python3 -c 'import time; time.sleep(60)' & until pkill python3; do :; done; wait $!; echo $?"
    )
    assert killed.stdout == b"143\n"
    assert (await shell(sandbox, "pgrep -x sleep")).stdout != b""
    await background.kill()
