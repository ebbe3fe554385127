"""What Docker, the kernel and the disk still have of a daemon that is gone."""

from __future__ import annotations

import sqlite3
from contextlib import closing, suppress
from pathlib import Path

from tests.sandbox.leftovers import containers, loop_devices, volumes
from tests.security.app import eventually
from tests.security.daemons import Nursery
from tests.security.kills.comparison import runtime_ids


def instance(state: Path) -> str:
    with closing(sqlite3.connect(f"file:{state / 'state.db'}?mode=ro", uri=True)) as database:
        return str(database.execute("SELECT value FROM settings WHERE name = 'instance_id'").fetchone()[0])


async def left_after_starts(nurse: Nursery, state: Path) -> list[str]:
    """What the engine made for the killed daemon after the next one's first look goes with a later start: the
    daemons here do not live until their second look."""
    for _ in range(3):
        if not await leftovers(state):
            return []
        assert await nurse.stop(await nurse.running(state, "docker")) == 0
    return await leftovers(state)


async def leftovers(state: Path) -> list[str]:
    """Of a daemon that was stopped: containers, volumes, loop devices, and files of workspaces without a runtime."""
    known = {f"{one}.ext4" for one in runtime_ids(state)}
    files = [path.name for path in (state / "workspaces").glob("*.ext4") if path.name not in known]
    files += [path.name for path in (state / "workspaces").glob("**/*.part")]
    # The kernel lets go of a loop device a moment after the last unmount.
    with suppress(TimeoutError):
        await eventually(lambda: loop_devices(state) == [], seconds=5)
    known_as = instance(state)
    return [*containers(known_as), *volumes(known_as), *files, *loop_devices(state)]
