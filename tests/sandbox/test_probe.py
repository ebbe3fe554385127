"""What the agent tells of its walls, asked where there are none: a probe that could see no gap would prove nothing."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from mcp_spaces.sandbox.agent.probe import probe
from mcp_spaces.sandbox.docker.walls import judge
from mcp_spaces.sandbox.port import SandboxLimits


def facts(root: Path, *addresses: str) -> dict[str, str]:
    told = probe(os.fsencode(root), [address.encode() for address in addresses])
    return {name: value for name, _, value in (fact.decode().partition("=") for fact in told)}


def test_what_can_be_reached_is_no_wall(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = "{}:{}".format(*server.getsockname())
        assert facts(tmp_path, address)[f"connect {address}"] != "unreachable"
    # Nobody listens there any more.
    assert facts(tmp_path, address)[f"connect {address}"] != "unreachable"
    assert facts(tmp_path, "127.0.0.1:53")["connect 127.0.0.1:53"] == "reached"


def test_this_process_is_told_as_it_is(tmp_path: Path) -> None:
    told = facts(tmp_path)
    status = dict(line.split(":\t", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":\t" in line)
    for name in ("CapEff", "CapPrm", "CapBnd", "CapAmb", "CapInh", "NoNewPrivs", "Seccomp"):
        assert told[name] == status[name]
    assert told["uid"] == ",".join(map(str, os.getresuid()))
    assert told["gid"] == ",".join(map(str, os.getresgid()))
    assert told["pid"] == str(os.getpid())
    assert set(told["interfaces"].split(",")) == {name for _, name in socket.if_nameindex()}


def test_mounts_are_told_as_they_are() -> None:
    mounts = {line.split()[1]: line.split()[3].split(",") for line in Path("/proc/mounts").read_text().splitlines()}
    for at in {"/", "/proc", "/sys", "/dev", "/dev/shm", "/dev/pts"} & set(mounts):
        told = facts(Path(at))
        assert told["workspace_flags"] == f"{int('nosuid' in mounts[at])},{int('nodev' in mounts[at])}", at
        assert told["root_read_only"] == str(int("ro" in mounts["/"]))


def test_sockets_are_told_as_they_can_be_made(tmp_path: Path) -> None:
    told = facts(tmp_path)
    assert told["socket packet"] == made(socket.AF_PACKET, socket.SOCK_STREAM)
    assert told["socket alg"] == made(socket.AF_ALG, socket.SOCK_SEQPACKET)
    assert told["socket vsock"] == made(socket.AF_VSOCK, socket.SOCK_STREAM)


def made(family: int, kind: int) -> str:
    try:
        socket.socket(family, kind).close()
    except OSError as error:
        return str(error.errno)
    return "made"


@pytest.mark.parametrize("kernel_disk", [True, False])
def test_nobody_takes_this_machine_for_a_sandbox(tmp_path: Path, kernel_disk: bool) -> None:
    assert judge(facts(tmp_path), SandboxLimits(), kernel_disk=kernel_disk)
