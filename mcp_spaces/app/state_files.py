"""What lies in a state directory, and of which kind each has to be for a daemon to start on it."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

from mcp_spaces import places
from mcp_spaces.errors import WrongState
from mcp_spaces.state.database import ANCHOR_NAME

DATABASE_NAME = "state.db"
KEY_NAME = "seal.key"
BLOBS_NAME = "blobs"
BROWSERS_NAME = "browsers"

FILES = (DATABASE_NAME, ANCHOR_NAME)
BESIDE_THE_DATABASE = (f"{DATABASE_NAME}-wal", f"{DATABASE_NAME}-shm")
FOLDERS = (BLOBS_NAME, BROWSERS_NAME, "workspaces")


def refuse_other_kinds(state_dir: Path) -> None:
    """What is not there yet is made later. A link counts as what it leads to, so that large ones may lie on another
    disk, but for the files that SQLite makes itself: it follows none there. The sealing key has rules of its own.

    Raises WrongState: something else stands in a file's or folder's place, or this user may not read and write it.
    """
    for name in FILES:
        _refuse(state_dir / name, stat.S_ISREG, "plain file")
    for name in BESIDE_THE_DATABASE:
        _refuse(state_dir / name, stat.S_ISREG, "plain file", follows=False)
    for name in FOLDERS:
        _refuse(state_dir / name, stat.S_ISDIR, "folder")
    for socket in (places.agent_socket(str(state_dir)), places.operator_socket(str(state_dir))):
        # Whatever else a killed daemon may have left is replaced.
        if Path(socket).is_dir() and not Path(socket).is_symlink():
            raise WrongState(f"{socket} is no socket.", hint=_MOVE)


def _refuse(path: Path, is_right: Callable[[int], bool], kind: str, *, follows: bool = True) -> None:
    try:
        found = path.stat(follow_symlinks=follows)
    except OSError:
        if not path.is_symlink():
            return
        raise WrongState(f"{path} leads nowhere.", hint=_MOVE) from None
    if not is_right(found.st_mode):
        raise WrongState(f"{path} is no {kind}.", hint=_MOVE)
    needed = os.R_OK | os.W_OK | (os.X_OK if stat.S_ISDIR(found.st_mode) else 0)
    if not os.access(path, needed, effective_ids=True):
        raise WrongState(
            f"This user may not read and write {path}.", hint=f"Make it this user's, and run: chmod u+rwX {path}"
        )


_MOVE = "Move it away and, where you have it, put the one back that was there."
