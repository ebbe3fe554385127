"""Chromium's own sandbox: whether this machine lets it be built, and what mends it where not.

It takes a user namespace with namespaces of processes and network inside. Ubuntu from 23.10 on gives those without
root only to programs that an AppArmor profile names; other machines have a switch for all of them.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

COMPLAINTS = (b"No usable sandbox", b"zygote_host_impl_linux")
"""What Chromium says on stderr when it has none, and where in its source it does."""
MISSING = "this machine lets it build no sandbox of its own"
PROBE_S = 5.0
SWITCHES = (
    ("kernel/apparmor_restrict_unprivileged_userns", "1", "kernel.apparmor_restrict_unprivileged_userns=0"),
    ("kernel/unprivileged_userns_clone", "0", "kernel.unprivileged_userns_clone=1"),
    ("user/max_user_namespaces", "0", "user.max_user_namespaces=15000"),
)
"""Below /proc/sys: a file, what it says when namespaces are restricted, and what lifts that."""
# As Chromium does it, in a process of its own. A process that changed its user may not write its own maps otherwise.
PROBE = """
import ctypes, os, sys
libc, uid = ctypes.CDLL(None), int(sys.argv[1])
if uid != os.getuid():
    os.setgroups([]); os.setresgid(uid, uid, uid); os.setresuid(uid, uid, uid)
    libc.prctl(4, 1, 0, 0, 0)
gid = os.getgid()
made = not libc.unshare(0x10000000)
for name, words in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
    with open(f"/proc/self/{name}", "w") as file:
        file.write(words)
sys.exit(0 if made and not libc.unshare(0x60000000) else 1)
"""


def can_be_built(uid: int) -> bool:
    """Tried as this user. Blocking, 50 ms."""
    words = [sys.executable, "-I", "-S", "-c", PROBE, str(uid)]
    try:
        return not subprocess.run(words, capture_output=True, timeout=PROBE_S, check=False).returncode
    except (OSError, subprocess.SubprocessError):
        return False


def mend(program: str, *, switches: Path = Path("/proc/sys")) -> str:
    """The command; where AppArmor restricts, the profile that permits it to this program alone is named as well."""
    for name, restricted, lifted in SWITCHES:
        try:
            found = (switches / name).read_text("utf-8").strip()
        except OSError:
            continue
        if found == restricted:
            profile = f"    # or only for {program}: an AppArmor profile with `userns,`" if "apparmor" in name else ""
            return f"sudo sysctl -w {lifted}{profile}"
    return "permit unprivileged user namespaces on this machine"
