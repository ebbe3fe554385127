"""The log of a daemon that a client started."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

from tests.server.doors import ROOT

WRITER = """
import logging, sys
from pathlib import Path
from mcp_spaces.server.daemon_log import DaemonLog
logging.basicConfig(level=logging.INFO, handlers=[DaemonLog(Path(sys.argv[1]), bytes_max=10_000)], format="%(message)s")
for number in range(1_000):
    logging.info("line %04d %s", number, "x" * 40)
sys.stderr.write("a traceback\\n")
print("what a child printed")
"""


def write(log: Path, to: Path) -> None:
    descriptor = os.open(to, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    subprocess.run(
        [sys.executable, "-c", WRITER, str(log)], stdout=descriptor, stderr=descriptor, cwd=ROOT, check=True, timeout=60
    )
    os.close(descriptor)


def test_it_is_turned_over_and_two_old_ones_are_kept(tmp_path: Path) -> None:
    log = tmp_path / "daemon.log"
    write(log, log)
    assert sorted(one.name for one in tmp_path.iterdir()) == ["daemon.log", "daemon.log.1", "daemon.log.2"]
    assert all(one.stat().st_size < 10_200 for one in tmp_path.iterdir())
    assert all(stat.S_IMODE(one.stat().st_mode) == 0o600 for one in tmp_path.iterdir())
    assert "a traceback\n" in log.read_text()
    assert "what a child printed\n" in log.read_text()
    kept = "".join((tmp_path / name).read_text() for name in ("daemon.log.2", "daemon.log.1", "daemon.log"))
    numbers = [int(line.split()[1]) for line in kept.splitlines() if line.startswith("line")]
    assert numbers == list(range(numbers[0], 1_000))


def test_what_is_no_file_of_ours_stays_as_it_is(tmp_path: Path) -> None:
    write(tmp_path / "daemon.log", tmp_path / "journal")
    assert [one.name for one in tmp_path.iterdir()] == ["journal"]
    assert len((tmp_path / "journal").read_text().splitlines()) == 1_002
