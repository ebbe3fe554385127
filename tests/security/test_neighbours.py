"""N05: of other containers, those of this machine's engine and those of other spaces, nothing is reached."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import anyio
import pytest

from mcp_spaces.sandbox.docker.driver import DockerDriver
from mcp_spaces.sandbox.port import Sandbox
from tests.sandbox.rigs import IMAGE, PATIENCE_S, Output, python, sandbox_of, start

pytestmark = pytest.mark.anyio

PORT = 8000
SERVER = ("python3", "-u", "-m", "http.server", str(PORT))
TRIED = """
import socket
try:
    socket.create_connection(({address!r}, {port}), 5)
    print('reached')
except OSError as error:
    print(error.errno)
"""
NO_ROUTE, NOBODY_LISTENS = b"101\n", b"111\n"


@contextmanager
def foreign_container() -> Iterator[str]:
    """On the engine's own network, as people start them. Yields its address."""
    started = subprocess.run(
        ["docker", "run", "-d", "--rm", IMAGE, *SERVER], capture_output=True, text=True, check=True
    )
    container = started.stdout.strip()
    try:
        shown = ["docker", "inspect", "-f", "{{.NetworkSettings.IPAddress}}", container]
        yield subprocess.run(shown, capture_output=True, text=True, check=True).stdout.strip()
    finally:
        subprocess.run(["docker", "rm", "-f", container], capture_output=True, check=True)


async def tried(sandbox: Sandbox, address: str) -> bytes:
    return (await python(sandbox, TRIED.format(address=address, port=PORT))).stdout


async def listens(address: str) -> None:
    """Asked from this machine, which is on the engine's network."""
    with anyio.fail_after(PATIENCE_S):
        while True:
            try:
                await (await anyio.connect_tcp(address, PORT)).aclose()
            except OSError:
                await anyio.sleep(0.02)
            else:
                return


async def test_n05_a_container_of_this_machine_is_out_of_reach(sandbox: Sandbox) -> None:
    with foreign_container() as address:
        await listens(address)
        assert await tried(sandbox, address) == NO_ROUTE


async def test_n05_what_listens_in_one_sandbox_is_not_there_in_another(driver: DockerDriver, sandbox: Sandbox) -> None:
    output = Output()
    server = await start(sandbox, *SERVER, output=output)
    await output.until(b"Serving")
    assert await tried(sandbox, "127.0.0.1") == b"reached\n"
    async with sandbox_of(driver, runtime_id="other") as other:
        assert await tried(other, "127.0.0.1") == NOBODY_LISTENS
        assert await tried(other, "0.0.0.0") == NOBODY_LISTENS
    await server.kill()
