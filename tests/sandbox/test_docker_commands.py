"""Commands in a real container: floods, full tables, long arguments, odd scripts and terminals."""

from __future__ import annotations

import anyio
import pytest

from mcp_spaces.errors import InvalidInput, NotFound, QuotaExceeded, WrongState
from mcp_spaces.sandbox.port import Sandbox, TerminalSize
from tests.sandbox.rigs import PATIENCE_S, Output, python, run, start


async def test_what_python_prints_comes_at_once(sandbox: Sandbox) -> None:
    output = Output()
    server = await start(sandbox, "python3", "-c", "import time; print('serving'); time.sleep(60)", output=output)
    await output.until(b"serving")
    await server.kill()


async def test_the_sandbox_is_localhost_and_knows_its_own_name(sandbox: Sandbox) -> None:
    ask = "import socket; print({one[4][0] for one in socket.getaddrinfo(socket.gethostname(), 80, socket.AF_INET)})"
    assert (await run(sandbox, "python3", "-c", ask)).stdout.startswith(b"{'127.0.0.")
    ask = "import socket; print(socket.gethostbyname('localhost'))"
    assert (await run(sandbox, "python3", "-c", ask)).stdout == b"127.0.0.1\n"


async def test_nothing_of_the_hosts_names_is_in_a_sandbox(sandbox: Sandbox) -> None:
    assert (await run(sandbox, "cat", "/etc/resolv.conf", "/etc/hosts")).stdout == b""


async def test_output_of_a_slow_reader_does_not_stop_the_others(sandbox: Sandbox) -> None:
    flood = await start(sandbox, "sh", "-c", "cat /dev/zero")
    try:
        for _ in range(20):
            # `run` itself waits no longer than PATIENCE_S, and the flood never ends.
            assert (await run(sandbox, "echo", "in time")).stdout == b"in time\n"
    finally:
        await flood.kill()


async def test_a_process_limit_is_an_error_and_not_the_end(sandbox: Sandbox) -> None:
    hogs = await start(sandbox, "sh", "-c", "for i in $(seq 80); do sleep 66.5 & done; echo up; wait")
    with anyio.fail_after(PATIENCE_S):
        refused = 0
        for _ in range(40):
            try:
                await run(sandbox, "sleep", "0.3")
            except QuotaExceeded:
                refused += 1
                break
            await anyio.sleep(0.02)
    await hogs.kill()
    with anyio.fail_after(PATIENCE_S):
        assert (await run(sandbox, "echo", "again")).stdout == b"again\n"


async def test_a_tree_a_thousand_folders_deep_can_be_deleted(sandbox: Sandbox) -> None:
    await python(sandbox, "import os\nfor _ in range(1000):\n os.mkdir('d' * 50); os.chdir('d' * 50)")
    with anyio.fail_after(PATIENCE_S):
        assert await sandbox.delete_file("d" * 50, recursive=True) == 1000
    with pytest.raises(NotFound):
        await sandbox.stat("d" * 50)


async def test_long_arguments_arrive(sandbox: Sandbox) -> None:
    assert (await run(sandbox, "printf", "%s", "x" * 100_000)).stdout == b"x" * 100_000
    with pytest.raises(InvalidInput):
        await run(sandbox, "printf", "%s", "x" * 300_000)


async def test_a_script_without_a_first_line_is_the_shells(sandbox: Sandbox) -> None:
    await sandbox.write_file("script", b"echo from the shell $1\n", overwrite=False)
    await run(sandbox, "chmod", "+x", "script")
    assert (await run(sandbox, "./script", "x")).stdout == b"from the shell x\n"


async def test_terminals_end_at_the_end_of_input(sandbox: Sandbox) -> None:
    output = Output()
    process = await start(sandbox, "cat", output=output, terminal=TerminalSize(24, 80))
    await process.write(b"line\n")
    await output.until(b"line\r\nline\r\n")
    await process.close_stdin()
    with anyio.fail_after(PATIENCE_S):
        assert (await process.wait()).exit_code == 0
    with pytest.raises(WrongState):
        await process.write(b"x")
