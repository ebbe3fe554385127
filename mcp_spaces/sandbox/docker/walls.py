"""Judging walls: what a new sandbox's agent sees of them, and what the engine offers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from mcp_spaces.sandbox.docker.container import UID
from mcp_spaces.sandbox.port import SandboxLimits, Wall

METADATA = "169.254.169.254:80"
RESOLVER = "8.8.8.8:53"
# Present, down and useless, in every network namespace of some kernels.
TUNNELS = {"tunl0", "gre0", "gretap0", "erspan0", "ip_vti0", "ip6_vti0", "sit0", "ip6tnl0", "ip6gre0"}
EPERM = "1"
IDENTITY = f"{UID},{UID},{UID}"
"""Real, effective and saved."""


def probed_addresses(gateways: Sequence[str]) -> list[str]:
    """What must be out of reach: cloud metadata, a resolver, the host."""
    return [METADATA, RESOLVER, *(f"{address}:{port}" for address in gateways for port in (22, 80))]


def judge(facts: Mapping[str, str], limits: SandboxLimits, *, kernel_disk: bool, sockets: bool = True) -> list[str]:
    """The walls that do not hold, in words; empty when all do. A fact that is missing is a wall that is missing.

    Without `sockets`, no families of sockets were tried: a shell cannot.
    """
    broken = []
    others = set(facts.get("interfaces", "?").split(",")) - {"lo"} - TUNNELS
    if others:
        broken.append("there is a network interface")
    for capability in ("CapEff", "CapPrm", "CapBnd", "CapAmb", "CapInh"):
        if facts.get(capability, "").strip("0") or not facts.get(capability):
            broken.append(f"{capability} is not empty")
    if facts.get("NoNewPrivs") != "1":
        broken.append("no_new_privs is off")
    if facts.get("Seccomp") != "2":
        broken.append("seccomp is off")
    if facts.get("uid") != IDENTITY or facts.get("gid") != IDENTITY:
        broken.append("it runs as another user")
    if facts.get("pid") != "1":
        broken.append("it is not process 1 of its own namespace")
    if facts.get("root_read_only") != "1":
        broken.append("the root file system is writable")
    if kernel_disk and facts.get("workspace_flags") != "1,1":
        broken.append("the workspace allows setuid programs or devices")
    if facts.get("workspace_writable") != "1":
        # A plain volume takes its owner from the image's folder.
        broken.append(f"the workspace is not writable (the image needs a /workspace of user {UID})")
    for what, name, most in (
        ("its memory is", "memory_limit", limits.memory_bytes),
        ("its processes are", "pids_limit", limits.pids),
        ("its cores are", "cpu_limit", math.ceil(limits.cpu_cores * 1000)),
    ):
        # A rootless engine without cgroups takes all limits, and keeps none.
        value = facts.get(name, "")
        if not value.isdecimal() or not 0 < int(value) <= most:
            broken.append(f"{what} not limited as asked")
    tried = [name for name in facts if name.startswith("connect ")]
    if f"connect {METADATA}" not in tried or f"connect {RESOLVER}" not in tried:
        broken.append("the network was not probed")
    broken += [f"{name.removeprefix('connect ')} is reachable" for name in tried if facts[name] != "unreachable"]
    broken += [f"sockets of family {name} can be made" for name in ("vsock", "alg", "packet") if sockets
               if facts.get(f"socket {name}") != EPERM]  # fmt: skip
    return broken


def is_rootless(host: Mapping[str, Any]) -> bool:
    return any("rootless" in str(option) for option in host.get("SecurityOptions") or ())


def engine_walls(host: Mapping[str, Any], limits: SandboxLimits) -> list[Wall]:
    """What the engine says about itself."""
    options = [str(option) for option in host.get("SecurityOptions") or ()]
    seccomp = any(option.startswith("name=seccomp") for option in options)
    limiting = {
        "memory": bool(host.get("MemoryLimit")),
        "swap": bool(host.get("SwapLimit")),
        "cpu": bool(host.get("CpuCfsQuota")),
        "pids": bool(host.get("PidsLimit")),
    }
    missing = [name for name, there in limiting.items() if not there]
    ignored = is_rootless(host) and str(host.get("CgroupVersion")) == "1"
    return [
        Wall("engine", True, f"Docker {host.get('ServerVersion')}"),
        Wall("seccomp", seccomp, "available" if seccomp else "not available", "" if seccomp else "use a kernel with CONFIG_SECCOMP_FILTER"),
        Wall(
            "limits",
            not missing and not ignored,
            "rootless on cgroup v1: limits are ignored" if ignored else
            f"no limit for {', '.join(missing)}" if missing else "memory, swap, cpu and processes are limited",
            "boot with systemd.unified_cgroup_hierarchy=1" if missing or ignored else "",
        ),
        Wall(
            "cores",
            limits.cpu_cores <= int(host.get("NCPU") or 0),
            f"{host.get('NCPU')} cores, {limits.cpu_cores:g} for a sandbox",
            "" if limits.cpu_cores <= int(host.get("NCPU") or 0) else "ask for fewer cores",
        ),
    ]  # fmt: skip
