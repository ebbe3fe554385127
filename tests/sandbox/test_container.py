"""The one configuration of a sandbox's container, and the comparison that finds any other."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest

from mcp_spaces.sandbox.docker.container import Disk, Intent, differences, request, shm_bytes, tmp_options
from mcp_spaces.sandbox.docker.walls import METADATA, RESOLVER, judge
from mcp_spaces.sandbox.port import SandboxLimits

INTENT = Intent(
    instance_id="instance",
    driver_id="driver",
    runtime_id="runtime",
    image_id="sha256:1",
    limits=SandboxLimits(cpu_cores=1.5),
    disk=Disk(device="/dev/loop7"),
    seccomp="{}",
    command=("python3",),
)


def inspected() -> dict[str, Any]:
    """What an engine answers that did as it was told."""
    body = copy.deepcopy(request(INTENT))
    host = body.pop("HostConfig")
    host |= {
        "Binds": None,
        "Privileged": False,
        "PidMode": "",
        "Devices": [],
        "CapAdd": None,
        "RestartPolicy": {"Name": "no", "MaximumRetryCount": 0},
        "Runtime": "runc",
        "ConsoleSize": [0, 0],
        "CgroupnsMode": "host",
        "MaskedPaths": ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/sched_debug", "/sys/firmware", "/x"],
        "ReadonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
    }
    body["Entrypoint"] = None
    return {
        "Image": body["Image"],
        "Config": body,
        "HostConfig": host,
        "Mounts": [{"Destination": "/workspace"}],
        "NetworkSettings": {"Networks": {"none": {}}},
    }


def test_e12_exactly_this_is_asked_of_the_engine() -> None:
    assert request(INTENT) == {
        "Image": "sha256:1",
        "Cmd": ["python3"],
        "Entrypoint": [],
        "User": "10001:10001",
        "Hostname": "sandbox",
        "WorkingDir": "/workspace",
        "Env": ["HOME=/workspace", "USER=sandbox", "LOGNAME=sandbox"],
        "Labels": {
            "mcp-spaces.instance": "instance",
            "mcp-spaces.runtime": "runtime",
            "mcp-spaces.driver": "driver",
        },
        "Tty": False,
        "OpenStdin": True,
        "StdinOnce": True,
        "AttachStdin": True,
        "AttachStdout": True,
        "AttachStderr": True,
        "NetworkDisabled": True,
        "Healthcheck": {"Test": ["NONE"]},
        "HostConfig": {
            "AutoRemove": True,
            "NetworkMode": "none",
            "IpcMode": "private",
            "ReadonlyRootfs": True,
            "CapDrop": ["ALL"],
            "SecurityOpt": ["no-new-privileges", "seccomp={}"],
            "PidsLimit": 256,
            "Memory": 1 << 30,
            "MemorySwap": 1 << 30,
            "NanoCpus": 1_500_000_000,
            "ShmSize": 64 << 20,
            "Tmpfs": {"/tmp": "rw,exec,nosuid,nodev,size=268435456,nr_inodes=65536,mode=1777"},
            "Ulimits": [
                {"Name": "core", "Soft": 0, "Hard": 0},
                {"Name": "nofile", "Soft": 4096, "Hard": 4096},
            ],
            "LogConfig": {"Type": "none", "Config": {}},
            "Mounts": [DISK],
        },
    }


DISK: dict[str, Any] = {
    "Type": "volume",
    "Target": "/workspace",
    "VolumeOptions": {
        "NoCopy": True,
        "Labels": {"mcp-spaces.instance": "instance", "mcp-spaces.runtime": "runtime"},
        "DriverConfig": {
            "Name": "local",
            "Options": {"type": "ext4", "device": "/dev/loop7", "o": "nosuid,nodev,noatime"},
        },
    },
}


def test_a_plain_volume_is_mounted_by_its_name() -> None:
    (mount,) = request(replace(INTENT, disk=Disk(volume="name")))["HostConfig"]["Mounts"]
    assert mount == {
        "Type": "volume",
        "Target": "/workspace",
        "Source": "name",
        "VolumeOptions": {"Labels": DISK["VolumeOptions"]["Labels"]},
    }


def test_the_intended_configuration_is_accepted() -> None:
    assert differences(INTENT, inspected()) == []


def test_what_the_engine_adds_by_itself_is_no_difference() -> None:
    answer = inspected()
    answer["HostConfig"]["Mounts"][0] |= {"Source": "", "ReadOnly": False, "BindOptions": None}
    answer["Config"]["Labels"]["maintainer"] = "of the image"
    assert differences(INTENT, answer) == []
    # As other releases have it.
    answer["HostConfig"] |= {
        "CgroupnsMode": "private",
        "Isolation": "default",
        "MemorySwappiness": -1,
        "RestartPolicy": {"Name": "", "MaximumRetryCount": 0},
    }
    assert differences(INTENT, answer) == []


@pytest.mark.parametrize("labels", [None, {}, {"mcp-spaces.instance": "another"}])
def test_a_container_without_its_labels_is_found(labels: object) -> None:
    answer = inspected()
    answer["Config"]["Labels"] = labels
    assert differences(INTENT, answer)


@pytest.mark.parametrize(
    "change",
    [{"Type": "bind"}, {"Source": "/"}, {"BindOptions": {"Propagation": "rshared"}}, {"VolumeOptions": {}}],
)
def test_another_mount_at_the_workspaces_place_is_found(change: dict[str, Any]) -> None:
    answer = inspected()
    answer["HostConfig"]["Mounts"][0] |= change
    assert differences(INTENT, answer)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("Privileged", True),
        ("PidMode", "host"),
        ("UTSMode", "host"),
        ("UsernsMode", "host"),
        ("IpcMode", "host"),
        ("NetworkMode", "bridge"),
        ("NetworkMode", "container:abc"),
        ("CapAdd", ["SYS_ADMIN"]),
        ("CapDrop", []),
        ("Binds", ["/:/host"]),
        ("Devices", [{"PathOnHost": "/dev/sda"}]),
        ("DeviceRequests", [{"Driver": "nvidia"}]),
        ("DeviceCgroupRules", ["a *:* rwm"]),
        ("Sysctls", {"net.ipv4.ip_forward": "1"}),
        ("SecurityOpt", ["no-new-privileges", "seccomp=unconfined"]),
        ("SecurityOpt", ["seccomp={}"]),
        ("ReadonlyRootfs", False),
        ("Memory", 0),
        ("MemorySwap", -1),
        ("PidsLimit", None),
        ("NanoCpus", 0),
        ("Tmpfs", {"/tmp": "rw"}),
        ("LogConfig", {"Type": "json-file", "Config": {}}),
        ("GroupAdd", ["0"]),
        ("VolumesFrom", ["other"]),
        ("PortBindings", {"80/tcp": [{"HostPort": "80"}]}),
        ("PublishAllPorts", True),
        ("MaskedPaths", []),
        ("ReadonlyPaths", None),
        ("OomKillDisable", True),
        ("CgroupParent", "/"),
        ("RestartPolicy", {"Name": "always", "MaximumRetryCount": 0}),
        ("Runtime", "other"),
        ("SomethingNewThatOpensDoors", True),
    ],
)
def test_any_other_configuration_is_found(key: str, value: object) -> None:
    answer = inspected()
    answer["HostConfig"][key] = value
    assert [found for found in differences(INTENT, answer) if found.startswith(f"HostConfig.{key}")]


def test_another_image_user_mount_or_network_is_found() -> None:
    changes: tuple[dict[str, Any], ...] = (
        {"Image": "sha256:2"},
        {"Mounts": [{"Destination": "/workspace"}, {"Destination": "/host"}]},
        {"NetworkSettings": {"Networks": {"bridge": {}}}},
    )
    for change in changes:
        assert differences(INTENT, inspected() | change)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("User", "0"),
        ("Cmd", ["/x"]),
        ("Cmd", ["python3", "/x"]),
        ("Entrypoint", ["/x"]),
        ("WorkingDir", "/"),
        ("Hostname", "host"),
        ("Volumes", {"/x": {}}),
        ("Tty", True),
        ("OpenStdin", False),
        ("StdinOnce", False),
    ],
)
def test_another_process_than_the_intended_one_is_found(key: str, value: object) -> None:
    answer = inspected()
    answer["Config"][key] = value
    assert differences(INTENT, answer) == [f"Config.{key}: {value!r}"]


@pytest.mark.parametrize(
    ("key", "path"),
    [
        *(
            ("MaskedPaths", path)
            for path in ("/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/sched_debug", "/sys/firmware")
        ),
        *(
            ("ReadonlyPaths", path)
            for path in ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
        ),
    ],
)
def test_one_path_of_the_kernel_that_is_not_covered_is_found(key: str, path: str) -> None:
    answer = inspected()
    answer["HostConfig"][key].remove(path)
    assert differences(INTENT, answer) == [f"HostConfig.{key}"]


def test_what_is_found_is_told_in_a_line() -> None:
    """It is told to callers, and a seccomp profile has thousands of lines."""
    answer = inspected()
    answer["HostConfig"]["SecurityOpt"] = ["seccomp=" + "x" * 10_000]
    (found,) = differences(INTENT, answer)
    assert found.startswith("HostConfig.SecurityOpt: ") and len(found) < 150


def test_a_missing_limit_in_the_answer_is_found() -> None:
    answer = inspected()
    del answer["HostConfig"]["PidsLimit"]
    assert differences(INTENT, answer) == ["HostConfig.PidsLimit: missing"]


def test_files_in_memory_never_fill_more_than_half_of_it() -> None:
    for memory_bytes in (32 << 20, 128 << 20, 1 << 30, 64 << 30):
        limits = SandboxLimits(memory_bytes=memory_bytes)
        size = next(part for part in tmp_options(limits).split(",") if part.startswith("size="))
        assert int(size[5:]) + shm_bytes(limits) <= memory_bytes // 2


HOLDING = {
    "interfaces": "lo",
    **dict.fromkeys(("CapEff", "CapPrm", "CapBnd", "CapAmb", "CapInh"), "0000000000000000"),
    "NoNewPrivs": "1",
    "Seccomp": "2",
    "uid": "10001,10001,10001",
    "gid": "10001,10001,10001",
    "pid": "1",
    "root_read_only": "1",
    "workspace_flags": "1,1",
    "workspace_writable": "1",
    "memory_limit": str(1 << 30),
    "pids_limit": "256",
    "cpu_limit": "1000",
    f"connect {METADATA}": "unreachable",
    f"connect {RESOLVER}": "unreachable",
    "socket vsock": "1",
    "socket alg": "1",
    "socket packet": "1",
}


def test_walls_that_hold_are_believed() -> None:
    assert judge(HOLDING, SandboxLimits(), kernel_disk=True) == []


def test_tunnels_that_some_kernels_have_in_every_network_are_no_breach() -> None:
    found = HOLDING | {"interfaces": "gre0,gretap0,ip6_vti0,ip6tnl0,lo,sit0,tunl0"}
    assert judge(found, SandboxLimits(), kernel_disk=True) == []
    assert judge(found | {"interfaces": "lo,tun0"}, SandboxLimits(), kernel_disk=True)


def test_a_share_of_a_core_that_floats_cannot_tell_exactly_is_no_breach() -> None:
    assert 1.001 * 1000 < 1001
    limits = SandboxLimits(cpu_cores=1.001)
    assert judge(HOLDING | {"cpu_limit": "1001"}, limits, kernel_disk=True) == []


def test_without_a_disk_of_its_own_a_workspace_has_the_flags_of_the_engine_s() -> None:
    found = HOLDING | {"workspace_flags": "0,0"}
    assert judge(found, SandboxLimits(), kernel_disk=False) == []
    assert judge(found, SandboxLimits(), kernel_disk=True)


def test_a_shell_tries_no_sockets() -> None:
    found = {name: value for name, value in HOLDING.items() if not name.startswith("socket ")}
    assert judge(found, SandboxLimits(), kernel_disk=True, sockets=False) == []


@pytest.mark.parametrize("fact", HOLDING)
def test_a_wall_that_is_not_seen_is_missing(fact: str) -> None:
    assert judge({name: value for name, value in HOLDING.items() if name != fact}, SandboxLimits(), kernel_disk=True)


@pytest.mark.parametrize(
    ("fact", "value"),
    [
        ("interfaces", "eth0,lo"),
        ("CapEff", "00000000a80425fb"),
        ("CapBnd", "0000003fffffffff"),
        ("NoNewPrivs", "0"),
        ("Seccomp", "0"),
        ("uid", "0,0,0"),
        ("pid", "17"),
        ("root_read_only", "0"),
        (f"connect {METADATA}", "reached"),
        (f"connect {METADATA}", "111"),
        ("connect 172.17.0.1:80", "111"),
        ("socket vsock", "made"),
        ("memory_limit", "0"),
        ("memory_limit", "9223372036854771712"),
        ("memory_limit", str((1 << 30) + 1)),
        ("pids_limit", "257"),
        ("pids_limit", "max"),
        ("cpu_limit", "2000"),
        ("cpu_limit", "1001"),
        ("gid", "0,0,0"),
        ("workspace_flags", "1,0"),
        ("workspace_writable", "0"),
        ("cpu_limit", "-1"),
    ],
)
def test_a_breach_is_seen(fact: str, value: str) -> None:
    assert judge(HOLDING | {fact: value}, SandboxLimits(), kernel_disk=True)
