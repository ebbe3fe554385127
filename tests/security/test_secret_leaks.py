"""Places around a sandbox that would keep what a command was given: Docker's records, its logs, files left behind."""

# ruff: noqa: ASYNC221 - Docker is asked beside the driver; nothing else waits meanwhile
from __future__ import annotations

import json
import socket
import subprocess
import time
from pathlib import Path

import anyio
import pytest

from mcp_spaces.sandbox.docker.driver import DockerDriver
from mcp_spaces.sandbox.port import Sandbox, SandboxSpec
from tests.folders import content_of, files_below
from tests.sandbox.rigs import IMAGE, SMALL, Output, python, run, sandbox_of, shell, start
from tests.server.doors import open_house

pytestmark = pytest.mark.anyio

CANARY = "canary-6f1d9c-in-an-environment"
OTHER = "canary-a83b02-in-an-argument"


def said(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


async def test_l13_l14_what_a_command_is_given_is_in_no_record_of_docker_s(sandbox: Sandbox) -> None:
    """Commands go through the sandbox's own stream: Docker knows of no exec, so neither inspect nor events tell."""
    began = str(int(time.time()) - 120)
    output = Output()
    process = await start(sandbox, "sh", "-c", "echo up; sleep 100", OTHER, env={"TOKEN": CANARY}, output=output)
    await output.until(b"up")
    inspected = said("docker", "inspect", sandbox.container_id)
    # An exec would be told; of all that happens in it an engine remembers the last 256 events alone.
    said("docker", "exec", sandbox.container_id, "true")
    of_it = ("--filter", f"container={sandbox.container_id}", "--since", began, "--until", str(int(time.time()) + 1))
    events = said("docker", "events", *of_it)
    assert "exec_create: true" in events
    for canary in (CANARY, OTHER):
        assert canary not in inspected
        assert canary not in events
    assert json.loads(inspected)[0]["ExecIDs"] is None
    await process.kill()


async def test_l13_the_next_command_and_its_processes_see_nothing_of_the_last_one_s_environment(
    sandbox: Sandbox,
) -> None:
    await run(sandbox, "sh", "-c", "true", env={"TOKEN": CANARY})
    seen = await shell(sandbox, "env; cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline 2>/dev/null")
    assert CANARY.encode() not in seen.stdout


async def test_l15_docker_keeps_no_log_of_what_a_sandbox_says(sandbox: Sandbox) -> None:
    await run(sandbox, "echo", CANARY)
    (inspected,) = json.loads(said("docker", "inspect", sandbox.container_id))
    assert (inspected["HostConfig"]["LogConfig"]["Type"], inspected["LogPath"]) == ("none", "")
    asked = subprocess.run(["docker", "logs", sandbox.container_id], capture_output=True, text=True)
    assert CANARY not in asked.stdout + asked.stderr


async def test_l19_what_was_in_tmp_is_gone_with_the_container_and_everything_with_the_runtime(
    driver: DockerDriver, tmp_path: Path
) -> None:
    async with sandbox_of(driver) as sandbox:
        await shell(sandbox, f"echo {CANARY} > /tmp/kept; echo {CANARY} > /dev/shm/kept; echo {CANARY} > kept")
    again = await driver.launch(SandboxSpec("runtime", IMAGE, SMALL))
    left = await shell(again, "cat /tmp/kept /dev/shm/kept; echo; cat kept")
    assert left.stdout.decode().split() == [CANARY]
    await again.stop()
    await driver.delete_workspace("runtime")
    assert [path for path in files_below(tmp_path) if CANARY.encode() in content_of(path)] == []
    fresh = await driver.launch(SandboxSpec("runtime", IMAGE, SMALL))
    assert (await shell(fresh, "ls -A")).stdout == b""
    await fresh.stop()


async def test_l24_what_depends_on_the_caller_is_never_cached_for_others() -> None:
    async with open_house() as house, house.client() as client:
        tools, resources = await client.list_tools(), await client.list_resources()
        templates = await client.list_resource_templates()
        document = await client.read_resource(str(resources.resources[0].uri))
        said = [(one.ttl_ms, one.cache_scope) for one in (tools, resources, templates, document)]
        assert said == [(0, "private")] * 4


async def test_n06_an_abstract_socket_of_the_host_is_out_of_reach(sandbox: Sandbox) -> None:
    name = f"mcp-spaces-test-{time.monotonic_ns()}"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"\0{name}")
        listener.listen()
        with socket.socket(socket.AF_UNIX) as here:
            here.connect(f"\0{name}")
        tried = await python(
            sandbox,
            f"import socket\ns = socket.socket(socket.AF_UNIX)\ntry: s.connect('\\0{name}'); print('reached')\n"
            "except OSError as error: print(error.strerror)",
        )
        assert tried.stdout == b"Connection refused\n"


async def test_n04_the_daemon_s_own_port_is_out_of_reach_whatever_it_is_called() -> None:
    """Not from a sandbox, which has no route; and not through the gateway, by any name or address."""
    from tests.network.lab import OPEN, laboratory

    async with laboratory(OPEN) as lab:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
            lab.names["daemon.example.com"] = ["127.0.0.1"]
            lab.names["mine.example.com"] = [own_address()]
            for host in ("127.0.0.1", "localhost", "0x7f.1", "[::1]", "daemon.example.com", "mine.example.com"):
                with anyio.fail_after(20):
                    answer = await lab.ask(
                        f"GET http://{host}:{port}/ HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode()
                    )
                assert b"X-Mcp-Spaces-Refused" in answer, host
        assert lab.internet.dialled == []


def own_address() -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return "127.0.0.1"
        return str(probe.getsockname()[0])
