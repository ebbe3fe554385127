"""Room for open files: the usual 1,024 are few for a daemon whose clients take three each, and its sandboxes one."""

from __future__ import annotations

import resource

WANTED = 65_536


def make_room() -> None:
    """Raise the soft limit, as far as the hard one permits."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = WANTED if hard == resource.RLIM_INFINITY else min(hard, WANTED)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
