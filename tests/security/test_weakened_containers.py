"""E12: a container that is weaker than ours is neither asked for nor handed out."""

from __future__ import annotations

import asyncio
import dataclasses
import inspect
import secrets
import subprocess
from pathlib import Path

import pytest

from mcp_spaces.errors import RuntimeUnavailable
from mcp_spaces.sandbox.docker.driver import DockerDriver
from mcp_spaces.sandbox.port import SandboxSpec, Tenant
from tests.sandbox.leftovers import containers
from tests.sandbox.rigs import BARE_IMAGE, IMAGE, LOG, SMALL
from tests.security.app import eventually
from tests.security.weakened_engine import WEAKER, WeakenedEngine

pytestmark = pytest.mark.anyio


def test_e12_a_dangerous_container_cannot_be_asked_for() -> None:
    fields = {field.name for field in dataclasses.fields(SandboxSpec)} | {
        field.name for field in dataclasses.fields(SMALL)
    }
    assert fields == {"runtime_id", "image", "limits", "cpu_cores", "memory_bytes", "disk_bytes", "pids"}
    assert set(inspect.signature(DockerDriver).parameters) == {
        "instance_id", "state_dir", "image", "pool_size", "docker_url",
        "kernel_disk", "tenant", "shortcut", "later", "log",
    }  # fmt: skip
    assert {one.value for one in Tenant} == {"sandbox", "browser"}


@pytest.mark.parametrize(("way", "image"), [*((way, IMAGE) for way in WEAKER), ("a kept log", BARE_IMAGE)])
async def test_e12_a_container_that_is_not_the_intended_one_is_never_handed_out(
    tmp_path: Path, way: str, image: str
) -> None:
    async with WeakenedEngine(tmp_path / "weak.sock", *WEAKER[way]) as engine:
        driver = DockerDriver(
            instance_id=f"weak-{secrets.token_hex(4)}", state_dir=tmp_path, image=image, pool_size=0,
            docker_url=f"unix://{engine.path}", log=LOG,
        )  # fmt: skip
        with pytest.raises(RuntimeUnavailable):
            await driver.launch(SandboxSpec("runtime", image, SMALL))
        assert engine.changed
        left = await asyncio.create_subprocess_exec(
            "docker", "ps", "-aq", "--filter", f"label=mcp-spaces.instance={driver.instance_id}", stdout=subprocess.PIPE
        )
        assert (await left.communicate())[0] == b""
        assert list((tmp_path / "workspaces").glob("*.ext4")) == []
        await driver.aclose()


@pytest.mark.parametrize("image", [IMAGE, BARE_IMAGE])
@pytest.mark.parametrize(
    ("way", "claimed", "told"),
    [
        (
            "a writable root",
            (b'"ReadonlyRootfs":false', b'"ReadonlyRootfs":true '),
            "root file system is writable",
        ),
        (
            "a disk with setuid programs and devices",
            (b'"relatime,suid,dev,rw"', b'"nosuid,nodev,noatime"'),
            "workspace allows setuid programs or devices",
        ),
    ],
)
async def test_e12_what_the_engine_claims_is_looked_at_from_inside(
    tmp_path: Path, image: str, way: str, claimed: tuple[bytes, bytes], told: str
) -> None:
    async with WeakenedEngine(tmp_path / "weak.sock", *WEAKER[way], claimed=claimed) as engine:
        driver = DockerDriver(
            instance_id=f"weak-{secrets.token_hex(4)}", state_dir=tmp_path, image=image, pool_size=0,
            docker_url=f"unix://{engine.path}", log=LOG,
        )  # fmt: skip
        with pytest.raises(RuntimeUnavailable, match=told):
            await driver.launch(SandboxSpec("runtime", image, SMALL))
        await driver.aclose()


async def test_n01_the_address_of_the_host_is_tried_before_a_sandbox_is_handed_out(tmp_path: Path) -> None:
    """The engine says what it is; here it names one that can be reached."""
    shown = ["docker", "network", "inspect", "-f", "{{(index .IPAM.Config 0).Gateway}}", "bridge"]
    found = await asyncio.create_subprocess_exec(*shown, stdout=subprocess.PIPE)
    gateway = (await found.communicate())[0].decode().strip()
    # A loopback address of the same length.
    reachable = "127." + "1".rjust(len(gateway) - 4, "0")
    claimed = (f'"Gateway":"{gateway}"'.encode(), f'"Gateway":"{reachable}"'.encode())
    async with WeakenedEngine(tmp_path / "weak.sock", b"nothing", b"nothing", claimed=claimed) as engine:
        driver = DockerDriver(
            instance_id=f"weak-{secrets.token_hex(4)}", state_dir=tmp_path, image=IMAGE, pool_size=0,
            docker_url=f"unix://{engine.path}", log=LOG,
        )  # fmt: skip
        with pytest.raises(RuntimeUnavailable, match=f"{reachable}:22 is reachable"):
            await driver.launch(SandboxSpec("runtime", IMAGE, SMALL))
        await driver.aclose()


@pytest.mark.parametrize("image", [IMAGE, BARE_IMAGE])
async def test_e12_a_sandbox_that_is_refused_ends_also_where_the_engine_removes_nothing(
    tmp_path: Path, image: str
) -> None:
    """With its input. What is told is why it was refused."""
    claimed = (b'"Privileged":false', b'"Privileged":true ')
    async with WeakenedEngine(tmp_path / "weak.sock", b"DELETE /v1.", b"DELETE /v9.", claimed=claimed) as engine:
        driver = DockerDriver(
            instance_id=f"weak-{secrets.token_hex(4)}", state_dir=tmp_path, image=image, pool_size=0,
            docker_url=f"unix://{engine.path}", log=LOG,
        )  # fmt: skip
        with pytest.raises(RuntimeUnavailable, match=r"HostConfig\.Privileged: True"):
            await driver.launch(SandboxSpec("runtime", image, SMALL))
        assert engine.changed
        try:
            await eventually(lambda: containers(driver.instance_id) == [])
        finally:
            for left in containers(driver.instance_id):
                removing = await asyncio.create_subprocess_exec("docker", "rm", "-fv", left, stdout=subprocess.DEVNULL)
                await removing.wait()
            await driver.aclose()


async def test_an_agent_that_does_not_say_hello_is_given_up_in_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mcp_spaces.sandbox.docker.launcher.HELLO_TIMEOUT_S", 0.5)
    word, other = b'"python3", "-I", "-S", "-u", "-c"', b'"sh", "-c", "sleep 600"'
    async with WeakenedEngine(tmp_path / "weak.sock", word, other.ljust(len(word))) as engine:
        driver = DockerDriver(
            instance_id=f"weak-{secrets.token_hex(4)}", state_dir=tmp_path, image=IMAGE, pool_size=0,
            docker_url=f"unix://{engine.path}", log=LOG,
        )  # fmt: skip
        with pytest.raises(RuntimeUnavailable, match="did not start in time"):
            await driver.launch(SandboxSpec("runtime", IMAGE, SMALL))
        assert engine.changed and containers(driver.instance_id) == []
        await driver.aclose()
