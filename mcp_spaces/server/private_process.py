"""Keep this process's memory to itself: no core files, and nothing of it in /proc for others of the same user."""

from __future__ import annotations

import ctypes
import logging
import resource

log = logging.getLogger(__name__)

PR_SET_DUMPABLE = 4


def keep_private() -> None:
    """Threat V14. Inherited by no program that this process executes. Where the kernel says no, it is only logged."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
        log.warning("memory can be read by other processes of this user: prctl failed (%s)", ctypes.get_errno())
