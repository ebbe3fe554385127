"""The one configuration that a sandbox's container can have, and the proof that the engine made just that.

There is no parameter for binds, devices, capabilities, namespaces of the host or sysctls: such a container cannot be
asked for. What the engine answers is compared field by field; a field that is unknown here must be empty.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mcp_spaces.sandbox.port import WORKSPACE, SandboxLimits

UID = 10001
"""Of the user and the group of whatever runs in a sandbox, by its number in every image."""
USER = f"{UID}:{UID}"
HOSTNAME = "sandbox"
TMP = "/tmp"  # noqa: S108 - in the sandbox
TMP_INODES = 65536
MAX_OPEN_FILES = 4096
MAX_SHM_BYTES = 64 << 20
INSTANCE_LABEL = "mcp-spaces.instance"
RUNTIME_LABEL = "mcp-spaces.runtime"
DRIVER_LABEL = "mcp-spaces.driver"
"""Of containers only: a workspace is used again by the next daemon, a container never."""
ENVIRONMENT = {"HOME": WORKSPACE, "USER": "sandbox", "LOGNAME": "sandbox"}


@dataclass(frozen=True, slots=True)
class Disk:
    """The workspace's volume: a file system on a block device, or (without `device`) a plain volume by its name."""

    device: str | None = None
    volume: str | None = None


@dataclass(frozen=True, slots=True)
class Intent:
    """Everything that differs between two sandboxes."""

    instance_id: str
    driver_id: str
    runtime_id: str
    image_id: str
    limits: SandboxLimits
    disk: Disk
    seccomp: str
    command: Sequence[str]


def request(intent: Intent) -> dict[str, Any]:
    """The body of the engine's create call."""
    limits, labels = intent.limits, _labels(intent)
    return {
        "Image": intent.image_id,
        "Cmd": list(intent.command),
        "Entrypoint": [],
        "User": USER,
        "Hostname": HOSTNAME,
        "WorkingDir": WORKSPACE,
        "Env": [f"{key}={value}" for key, value in ENVIRONMENT.items()],
        "Labels": {**labels, DRIVER_LABEL: intent.driver_id},
        "Tty": False,
        "OpenStdin": True,
        # The end of the daemon's connection is the end of stdin, and so of the sandbox.
        "StdinOnce": True,
        "AttachStdin": True,
        "AttachStdout": True,
        "AttachStderr": True,
        # Saves the engine 0.1 s a start, and costs /etc/hosts: in our image a library knows localhost (nss-myhostname).
        "NetworkDisabled": True,
        "Healthcheck": {"Test": ["NONE"]},
        "HostConfig": {
            "AutoRemove": True,
            "NetworkMode": "none",
            "IpcMode": "private",
            "ReadonlyRootfs": True,
            "CapDrop": ["ALL"],
            "SecurityOpt": ["no-new-privileges", f"seccomp={intent.seccomp}"],
            **sizes(limits),
            "ShmSize": shm_bytes(limits),
            "Tmpfs": {TMP: tmp_options(limits)},
            "Ulimits": [
                {"Name": "core", "Soft": 0, "Hard": 0},
                {"Name": "nofile", "Soft": MAX_OPEN_FILES, "Hard": MAX_OPEN_FILES},
            ],
            "LogConfig": {"Type": "none", "Config": {}},
            "Mounts": [_mount(intent, labels)],
        },
    }


def sizes(limits: SandboxLimits) -> dict[str, int]:
    """What can be changed while it runs."""
    return {
        "PidsLimit": limits.pids,
        "Memory": limits.memory_bytes,
        "MemorySwap": limits.memory_bytes,
        "NanoCpus": round(limits.cpu_cores * 1e9),
    }


def tmp_options(limits: SandboxLimits) -> str:
    """TMP is memory: at most a quarter of it, so that with /dev/shm never more than half can be filled by files.

    Programs may run from it (installers and compilers unpack there); the workspace allows it anyway.
    """
    return f"rw,exec,nosuid,nodev,size={limits.memory_bytes // 4},nr_inodes={TMP_INODES},mode=1777"


def shm_bytes(limits: SandboxLimits) -> int:
    return min(MAX_SHM_BYTES, limits.memory_bytes // 8)


def _labels(intent: Intent) -> dict[str, str]:
    return {INSTANCE_LABEL: intent.instance_id, RUNTIME_LABEL: intent.runtime_id}


def _mount(intent: Intent, labels: Mapping[str, str]) -> dict[str, Any]:
    mount: dict[str, Any] = {"Type": "volume", "Target": WORKSPACE, "VolumeOptions": {"NoCopy": True}}
    if intent.disk.device is not None:
        mount["VolumeOptions"]["Labels"] = dict(labels)
        mount["VolumeOptions"]["DriverConfig"] = {
            "Name": "local",
            "Options": {"type": "ext4", "device": intent.disk.device, "o": "nosuid,nodev,noatime"},
        }
    else:
        mount["Source"] = intent.disk.volume
        # A plain volume starts as root's: copying the image's empty folder gives it to the sandbox's user.
        mount["VolumeOptions"] = {"Labels": dict(labels)}
    return mount


# What engines fill in by themselves and what is as safe as empty.
_HARMLESS: dict[str, tuple[Any, ...]] = {
    "CgroupnsMode": ("host", "private"),
    "RestartPolicy": ({"Name": "no", "MaximumRetryCount": 0}, {"Name": "", "MaximumRetryCount": 0}),
    "Runtime": ("runc",),
    "ConsoleSize": ([0, 0],),
    "MemorySwappiness": (-1,),
    "Isolation": ("default",),
}
_MASKED = {"/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/sched_debug", "/sys/firmware"}
_READ_ONLY = {"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}


def differences(intent: Intent, inspected: Mapping[str, Any]) -> list[str]:
    """Where a created container is not the intended one: `HostConfig.Privileged: True`, …; empty when it is."""
    wanted = request(intent)
    host, config = dict(inspected.get("HostConfig") or {}), dict(inspected.get("Config") or {})
    found = []
    if not set(host.pop("MaskedPaths", None) or ()) >= _MASKED:
        found.append("HostConfig.MaskedPaths")
    if not set(host.pop("ReadonlyPaths", None) or ()) >= _READ_ONLY:
        found.append("HostConfig.ReadonlyPaths")
    for key, value in host.items():
        if key in wanted["HostConfig"]:
            if not _same(wanted["HostConfig"][key], value):
                found.append(f"HostConfig.{key}: {_short(value)}")
        elif value and value not in _HARMLESS.get(key, ()):
            found.append(f"HostConfig.{key}: {_short(value)}")
    found += [f"HostConfig.{key}: missing" for key in wanted["HostConfig"] if key not in host]
    if inspected.get("Image") != intent.image_id:
        found.append(f"Image: {_short(inspected.get('Image'))}")
    for key in ("User", "Cmd", "Tty", "OpenStdin", "StdinOnce", "WorkingDir", "Labels", "Hostname"):
        value = config.get(key)
        if key == "Labels":
            # The image's own labels come along.
            value = {name: value.get(name) for name in wanted["Labels"]} if isinstance(value, dict) else value
        if not _same(wanted[key], value):
            found.append(f"Config.{key}: {_short(config.get(key))}")
    if config.get("Entrypoint"):
        found.append(f"Config.Entrypoint: {_short(config['Entrypoint'])}")
    if config.get("Volumes"):
        found.append(f"Config.Volumes: {_short(config['Volumes'])}")
    mounts = [mount.get("Destination") for mount in inspected.get("Mounts") or ()]
    if mounts != [WORKSPACE]:
        found.append(f"Mounts: {_short(mounts)}")
    networks = (inspected.get("NetworkSettings") or {}).get("Networks") or {}
    if set(networks) - {"none"}:
        found.append(f"NetworkSettings.Networks: {_short(sorted(networks))}")
    return found


def _same(wanted: Any, value: Any) -> bool:
    if isinstance(wanted, list) and isinstance(value, list):
        return len(wanted) == len(value) and all(map(_same, wanted, value))
    if isinstance(wanted, dict) and isinstance(value, dict):
        # The engine adds empty defaults to the records that it was given.
        return all(_same(wanted[key], value.get(key)) for key in wanted) and not any(
            value[key] for key in value if key not in wanted
        )
    return bool(wanted == value)


def _short(value: Any) -> str:
    return repr(value)[:100]
