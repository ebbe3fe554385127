"""What has to be out of reach, and what an engine that lacks something is told to be lacking."""

from __future__ import annotations

from typing import Any

import pytest

from mcp_spaces.sandbox.docker.walls import METADATA, RESOLVER, engine_walls, probed_addresses
from mcp_spaces.sandbox.port import SandboxLimits

WHOLE: dict[str, Any] = {
    "ServerVersion": "29.0",
    "SecurityOptions": ["name=apparmor", "name=seccomp,profile=builtin"],
    "MemoryLimit": True,
    "SwapLimit": True,
    "CpuCfsQuota": True,
    "PidsLimit": True,
    "CgroupVersion": "2",
    "NCPU": 2,
}


def broken(**changes: object) -> dict[str, str]:
    """The walls that do not hold, each with what mends it."""
    found = engine_walls({**WHOLE, **changes}, SandboxLimits(cpu_cores=1.5))
    assert [wall.name for wall in found] == ["engine", "seccomp", "limits", "cores"]
    assert all(wall.found for wall in found) and not any(wall.mend for wall in found if wall.holds)
    return {wall.name: wall.mend for wall in found if not wall.holds}


def test_the_host_the_cloud_and_a_resolver_are_tried() -> None:
    assert probed_addresses(["172.17.0.1", "10.1.0.1"]) == [
        METADATA, RESOLVER, "172.17.0.1:22", "172.17.0.1:80", "10.1.0.1:22", "10.1.0.1:80"
    ]  # fmt: skip


def test_an_engine_with_everything_has_all_its_walls() -> None:
    assert broken() == {}


@pytest.mark.parametrize("limit", ["MemoryLimit", "SwapLimit", "CpuCfsQuota", "PidsLimit"])
def test_a_limit_that_the_engine_cannot_keep_is_missed(limit: str) -> None:
    for value in (False, None):
        assert "boot with" in broken(**{limit: value})["limits"]


def test_limits_that_a_rootless_engine_ignores_are_missed() -> None:
    rootless = [*WHOLE["SecurityOptions"], "name=rootless"]
    assert set(broken(SecurityOptions=rootless, CgroupVersion="1")) == {"limits"}
    assert broken(SecurityOptions=rootless) == broken(CgroupVersion="1") == {}


def test_an_engine_without_seccomp_or_with_too_few_cores_is_told() -> None:
    assert set(broken(SecurityOptions=["name=apparmor"])) == {"seccomp"}
    assert set(broken(SecurityOptions=None)) == {"seccomp"}
    assert set(broken(NCPU=1)) == set(broken(NCPU=None)) == {"cores"}
