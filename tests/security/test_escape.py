"""E01 to E11: what a hostile command finds when it looks for a way out of its container."""

# ruff: noqa: ASYNC221 - Docker is asked beside the driver; nothing else waits meanwhile
from __future__ import annotations

import json
import os
import socket
import subprocess

import pytest

from mcp_spaces.errors import RuntimeUnavailable
from mcp_spaces.resources import resource
from mcp_spaces.sandbox.docker.driver import DockerDriver
from mcp_spaces.sandbox.port import Sandbox, SandboxSpec, Tenant
from tests.sandbox.rigs import IMAGE, SMALL, python, shell

pytestmark = pytest.mark.anyio

EPERM, ENOSYS = 1, 38


async def status_of(sandbox: Sandbox) -> dict[str, str]:
    ran = await shell(sandbox, "cat /proc/self/status")
    pairs = (line.partition(":") for line in ran.stdout.decode().splitlines())
    return {name: value.strip() for name, _, value in pairs}


async def test_e01_no_capability_is_left(sandbox: Sandbox) -> None:
    status = await status_of(sandbox)
    for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(status[name], 16) == 0


async def test_e02_no_program_gains_privileges(sandbox: Sandbox) -> None:
    assert (await status_of(sandbox))["NoNewPrivs"] == "1"
    ran = await shell(
        sandbox, "cp /usr/bin/id ./id; chmod 6755 ./id; ./id -u; find / -xdev -perm /6000 -type f | wc -l"
    )
    assert ran.stdout.split() == [b"10001", b"0"]


# Each line is a call, its arguments, and the errors that count as a wall.
CALLS: dict[str, tuple[str, tuple[int, ...]]] = {
    "io_uring_setup": ("425, 8, buffer", (EPERM,)),
    "io_uring_enter": ("426, 0, 0, 0, 0, 0, 0", (EPERM,)),
    "io_uring_register": ("427, 0, 0, 0, 0", (EPERM,)),
    "ptrace": ("101, 0, 0, 0, 0", (EPERM,)),
    "process_vm_readv": ("310, 1, 0, 0, 0, 0, 0", (EPERM,)),
    "process_vm_writev": ("311, 1, 0, 0, 0, 0, 0", (EPERM,)),
    "name_to_handle_at": ("303, -100, b'/', buffer, buffer, 0", (EPERM,)),
    "open_by_handle_at": ("304, 0, buffer, 0", (EPERM,)),
    "vmsplice": ("278, 1, 0, 0, 0", (EPERM,)),
    "bpf": ("321, 0, buffer, 128", (EPERM,)),
    "userfaultfd": ("323, 0", (EPERM,)),
    "keyctl": ("250, 0, -3, 0", (EPERM,)),
    "add_key": ("248, b'user', b'x', b'y', 1, -3", (EPERM,)),
    "request_key": ("249, b'user', b'x', 0, -3", (EPERM,)),
    "unshare a user namespace": ("272, 0x10000000", (EPERM,)),
    "unshare a mount namespace": ("272, 0x00020000", (EPERM,)),
    "clone into a user namespace": ("56, 0x10000000 | 17, 0, 0, 0, 0", (EPERM,)),
    "clone into a network namespace": ("56, 0x40000000 | 17, 0, 0, 0, 0", (EPERM,)),
    "clone3": ("435, buffer, 88", (ENOSYS,)),
    "setns": ("308, 0, 0", (EPERM,)),
    "mount": ("165, b'none', b'/tmp', b'tmpfs', 0, 0", (EPERM,)),
    "umount2": ("166, b'/tmp', 0", (EPERM,)),
    "fsopen": ("430, b'tmpfs', 0", (EPERM,)),
    "open_tree": ("428, -100, b'/', 1", (EPERM,)),
    "move_mount": ("429, -100, b'/', -100, b'/tmp', 0", (EPERM,)),
    "pivot_root": ("155, b'/', b'/'", (EPERM,)),
    "chroot": ("161, b'/tmp'", (EPERM,)),
    "perf_event_open": ("298, buffer, 0, -1, -1, 0", (EPERM,)),
    "kexec_load": ("246, 0, 0, 0, 0", (EPERM,)),
    "kexec_file_load": ("320, 0, 0, 0, b'', 0", (EPERM,)),
    "init_module": ("175, buffer, 1, b''", (EPERM,)),
    "finit_module": ("313, 0, b'', 0", (EPERM,)),
    "delete_module": ("176, b'x', 0", (EPERM,)),
    "reboot": ("169, 0, 0, 0, 0", (EPERM,)),
    "swapon": ("167, b'/x', 0", (EPERM,)),
    "syslog": ("103, 3, buffer, 100", (EPERM,)),
    "settimeofday": ("164, buffer, 0", (EPERM,)),
    "acct": ("163, 0", (EPERM,)),
    "quotactl": ("179, 0, 0, 0, 0", (EPERM,)),
    "iopl": ("172, 3", (EPERM,)),
    "ioperm": ("173, 0, 1, 1", (EPERM,)),
    "modify_ldt": ("154, 0, buffer, 16", (EPERM,)),
    "kcmp": ("312, 1, 1, 0, 0, 0", (EPERM,)),
    "pidfd_getfd": ("438, 0, 0, 0", (EPERM,)),
    "process_madvise": ("440, 0, 0, 0, 0, 0", (EPERM,)),
    "fanotify_init": ("300, 0, 0", (EPERM,)),
    "memfd_secret": ("447, 0", (EPERM, ENOSYS)),
    "socket of AF_VSOCK": ("41, 40, 1, 0", (EPERM,)),
    "socket of AF_ALG": ("41, 38, 5, 0", (EPERM,)),
    "socket of AF_PACKET": ("41, 17, 3, 0", (EPERM,)),
    "socket of AF_TIPC": ("41, 30, 1, 0", (EPERM,)),
    "socketpair of AF_TIPC": ("53, 30, 1, 0, buffer", (EPERM,)),
    "personality READ_IMPLIES_EXEC": ("135, 0x0400000", (EPERM,)),
}

PROBE = """
import ctypes, json
libc = ctypes.CDLL(None, use_errno=True)
buffer = ctypes.create_string_buffer(4096)
found = {}
for name, arguments in CALLS.items():
    ctypes.set_errno(0)
    values = [ctypes.c_long(each) if isinstance(each, int) else each for each in eval("[" + arguments + "]")]
    result = libc.syscall(*values)
    found[name] = 0 if result != -1 else ctypes.get_errno()
print(json.dumps(found))
"""


async def test_e03_the_filter_stops_what_escapes_are_made_of(sandbox: Sandbox) -> None:
    assert (await status_of(sandbox))["Seccomp"] == "2"
    assert subprocess.run(["uname", "-m"], capture_output=True, text=True).stdout.strip() == "x86_64", (
        "numbers of x86-64"
    )
    calls = {name: call for name, (call, _) in CALLS.items()}
    script = f"CALLS = {calls!r}\n{PROBE}"
    found = json.loads((await python(sandbox, script)).stdout)
    passed = {name: number for name, number in found.items() if number not in CALLS[name][1]}
    assert passed == {}
    assert len(found) == len(CALLS)


@pytest.mark.parametrize("tenant", Tenant)
def test_e03_no_rule_of_the_filter_lets_any_of_them_through(tenant: Tenant) -> None:
    """Most of them fail without a filter too, for want of capabilities: what is asked here is the filter alone."""
    profile = json.loads(resource(f"{tenant}/seccomp.json").read_text("utf-8"))
    allowed = {name for rule in profile["syscalls"] if rule["action"] == "SCMP_ACT_ALLOW" for name in rule["names"]}
    by_argument = {"socket", "socketpair", "personality", "clone"}
    of_chromium = {"unshare", "chroot"} if tenant is Tenant.BROWSER else set()
    # Without the numbers that only 32-bit programs have, through which families of sockets would not be seen.
    asked = {name.split()[0] for name in CALLS} | {"socketcall", "ipc"}
    assert allowed & asked == by_argument | of_chromium
    assert all(rule["args"] for rule in profile["syscalls"] if by_argument & set(rule["names"]))
    families = [rule["args"][0]["value"] for rule in profile["syscalls"] if rule["names"] == ["socket"]]
    # Local, IPv4, IPv6 and netlink, which has no interface to look at but loopback.
    assert families == [1, 2, 10, 16]


async def test_e03_the_filter_lets_ordinary_programs_work(sandbox: Sandbox) -> None:
    ran = await shell(
        sandbox,
        "set -e; git init -q repo; cd repo; git config user.email a@b; git config user.name a; echo 1 > f; git add f;"
        "git commit -qm one; printf 'int main(void){return 3;}' > m.c; cc m.c -o m; ./m || test $? = 3;"
        "python3 -c 'import multiprocessing as m, threading, asyncio, sqlite3, socket;"
        "t = threading.Thread(target=print); t.start(); t.join();"
        "p = m.Pool(2); assert p.map(abs, [-1, -2]) == [1, 2]; p.close(); p.join();"
        's = socket.create_server(("127.0.0.1", 0)); c = socket.create_connection(s.getsockname()); c.close(); s.close();'
        "asyncio.run(asyncio.sleep(0))';"
        "echo all | gzip | gzip -d | grep all; rg -q 1 f; make --version > /dev/null; echo fine",
    )
    assert ran.stdout.endswith(b"fine\n"), ran.stderr


async def test_e03_the_32_bit_gate_is_shut(sandbox: Sandbox) -> None:
    # `int 0x80` reaches another table of system calls, which a filter by number of the 64-bit one would miss.
    source = 'int main(void){int r; __asm__ volatile("int $0x80" : "=a"(r) : "a"(20)); return r > 0 ? 0 : 9;}'
    await sandbox.write_file("gate.c", source.encode(), overwrite=False)
    ran = await shell(sandbox, "cc gate.c -o gate && ./gate")
    assert ran.exit.exit_code != 0


async def test_e04_the_root_file_system_is_read_only(sandbox: Sandbox) -> None:
    ran = await shell(sandbox, "for d in / /etc /usr/bin /var/tmp /home /root /opt /dev; do touch $d/x && echo wrote $d; done; "
                               "mknod /x c 1 3; mknod /workspace/x b 7 0; mknod /tmp/x c 1 3; ls -A /workspace /tmp")  # fmt: skip
    assert ran.stdout.split() == [b"/tmp:", b"/workspace:"]
    # Where anybody may write by the modes of files, it is the file system that says no.
    tried = await python(
        sandbox,
        "import errno, os\ntry: os.open('/var/tmp/x', os.O_CREAT)\nexcept OSError as e: print(errno.errorcode[e.errno])",
    )
    assert tried.stdout == b"EROFS\n"


async def test_e05_programs_run_in_the_workspace_and_nothing_there_is_setuid_or_a_device(sandbox: Sandbox) -> None:
    ran = await shell(
        sandbox, "cp /bin/true . && ./true && echo ran; grep -E ' /(workspace|tmp|dev/shm) ' /proc/mounts"
    )
    lines = ran.stdout.decode().splitlines()
    assert lines[0] == "ran"
    assert len(lines) == 4
    for mount in lines[1:]:
        assert {"nosuid", "nodev"} <= set(mount.split()[3].split(","))


async def test_e06_no_socket_of_the_engine_and_nothing_of_the_host_is_mounted(
    driver: DockerDriver, sandbox: Sandbox
) -> None:
    ran = await shell(
        sandbox,
        "find / -xdev -name 'docker*.sock' -o -xdev -name 'containerd*.sock' 2>/dev/null; ls -A /mnt /media /srv",
    )
    assert b".sock" not in ran.stdout
    answer = json.loads(
        subprocess.run(["docker", "inspect", sandbox.container_id], capture_output=True, check=True).stdout
    )
    assert not answer[0]["HostConfig"]["Binds"]
    assert [mount["Destination"] for mount in answer[0]["Mounts"]] == ["/workspace"]


async def test_e07_there_are_no_devices(sandbox: Sandbox) -> None:
    ran = await shell(
        sandbox, "find /dev -type b; find /dev -type c ! -path '/dev/pts/*' -exec basename {} ';' | sort | tr '\\n' ' '"
    )
    assert ran.stdout.split() == [b"full", b"null", b"ptmx", b"random", b"tty", b"urandom", b"zero"] or set(
        ran.stdout.split()
    ) <= {b"full", b"null", b"ptmx", b"random", b"tty", b"urandom", b"zero", b"console"}


async def test_e08_proc_is_masked(sandbox: Sandbox) -> None:
    ran = await shell(
        sandbox,
        "for f in /proc/kcore /proc/keys /proc/timer_list; do head -c 100 $f; done 2>/dev/null | wc -c;"
        "for f in /proc/sysrq-trigger /proc/sys/kernel/core_pattern /proc/sys/vm/overcommit_memory; do"
        "  (echo x > $f) 2>/dev/null && echo wrote $f; done; ls /sys/firmware | wc -l; head -1 /proc/kallsyms | cut -c1-16",
    )
    lines = ran.stdout.split()
    assert lines[:2] == [b"0", b"0"]
    assert lines[2:] in ([], [b"0" * 16])


async def test_e09_cgroups_cannot_be_changed(sandbox: Sandbox) -> None:
    ran = await shell(sandbox, "find /sys/fs/cgroup -writable -type f 2>/dev/null | while read f; do (echo 1 > $f) 2>/dev/null "
                               "&& echo wrote $f; done; mkdir /sys/fs/cgroup/memory/x /sys/fs/cgroup/x")  # fmt: skip
    assert b"wrote" not in ran.stdout
    assert ran.exit.exit_code != 0


async def test_e10_the_sandbox_is_never_root(sandbox: Sandbox) -> None:
    ran = await python(
        sandbox,
        "import os\nprint(os.getresuid(), os.getresgid(), os.getgroups())\n"
        "for change in (os.setuid, os.setgid):\n"
        "    try: change(0); print('root')\n"
        "    except PermissionError: pass",
    )
    assert ran.stdout.splitlines() == [b"(10001, 10001, 10001) (10001, 10001, 10001) [10001]"]


async def test_e11_the_image_is_pinned_and_never_pulled(driver: DockerDriver, sandbox: Sandbox) -> None:
    answer = json.loads(
        subprocess.run(["docker", "inspect", sandbox.container_id], capture_output=True, check=True).stdout
    )
    wanted = subprocess.run(
        ["docker", "image", "inspect", "-f", "{{.Id}}", IMAGE], capture_output=True, text=True, check=True
    )
    assert answer[0]["Config"]["Image"] == answer[0]["Image"] == wanted.stdout.strip()
    with socket.create_server(("127.0.0.1", 0)) as registry:
        elsewhere = f"127.0.0.1:{registry.getsockname()[1]}/nothing/here:1"
        with pytest.raises(RuntimeUnavailable):
            await driver.launch(SandboxSpec("other", elsewhere, SMALL))
        # Nor was it asked for: an engine that looks for an image there fails with the same error.
        registry.setblocking(False)
        with pytest.raises(BlockingIOError):
            registry.accept()


def test_e03_a_browsers_profile_allows_namespaces_for_chromium_and_nothing_else() -> None:
    def rules(tenant: Tenant) -> list[str]:
        profile = json.loads(resource(f"{tenant}/seccomp.json").read_text("utf-8"))
        assert profile["defaultAction"] == "SCMP_ACT_ERRNO"
        return [json.dumps({**rule, "comment": ""}, sort_keys=True) for rule in profile["syscalls"]]

    sandbox, browser = rules(Tenant.SANDBOX), rules(Tenant.BROWSER)
    more = [json.loads(rule) for rule in browser if rule not in sandbox]
    less = [json.loads(rule) for rule in sandbox if rule not in browser]
    assert [rule["names"] for rule in more] == [["clone"], ["unshare"], ["chroot"]]
    assert [rule["names"] for rule in less] == [["clone"]]
    mounts_hosts_and_ipc = 0x20000 | 0x4000000 | 0x8000000 | 0x2000000
    for rule in more[:2]:
        (argument,) = rule["args"]
        assert argument["value"] & mounts_hosts_and_ipc == mounts_hosts_and_ipc and not argument.get("valueTwo")


async def test_n01_to_n08_nothing_is_reachable(sandbox: Sandbox) -> None:
    ran = await python(
        sandbox,
        "import socket, errno\n"
        "for host, port in (('169.254.169.254', 80), ('172.17.0.1', 22), ('8.8.8.8', 53), ('1.1.1.1', 443)):\n"
        "    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):\n"
        "        s = socket.socket(socket.AF_INET, kind); s.settimeout(1)\n"
        "        try: s.connect((host, port)); print('reached', host, port)\n"
        "        except OSError as e: assert e.errno == errno.ENETUNREACH, e\n"
        "try: socket.getaddrinfo('example.com', 80); print('resolved')\n"
        "except socket.gaierror: pass\n"
        "try: s = socket.socket(socket.AF_INET6); s.connect(('2606:4700::1111', 80)); print('reached 6')\n"
        "except OSError: pass\n"
        "for kind in (socket.SOCK_RAW,):\n"
        "    try: socket.socket(socket.AF_INET, kind, 1); print('raw')\n"
        "    except PermissionError: pass\n"
        "print('end')",
    )
    assert (ran.stdout, ran.stderr) == (b"end\n", b"")


async def test_n06_no_abstract_socket_of_the_host_is_in_reach(sandbox: Sandbox) -> None:
    name = f"mcp-spaces-canary-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"\0{name}")
        listener.listen()
        ran = await python(
            sandbox,
            f"import socket\ns = socket.socket(socket.AF_UNIX)\ns.connect('\\0{name}')\nprint('reached')",
        )
    assert b"reached" not in ran.stdout
