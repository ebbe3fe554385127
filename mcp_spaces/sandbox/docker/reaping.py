"""Removing what belongs to nobody any more: containers, volumes and disks of this instance, as a daemon that died, or a
runtime that was deleted meanwhile, leaves them behind."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from mcp_spaces.sandbox.docker.container import INSTANCE_LABEL, RUNTIME_LABEL
from mcp_spaces.sandbox.docker.engine import Engine
from mcp_spaces.sandbox.docker.launcher import Launcher
from mcp_spaces.sandbox.docker.pool import POOL_PREFIX
from mcp_spaces.sandbox.docker.workspace import DiskFiles


class Reaper:
    """What carries another instance's label is never touched."""

    def __init__(self, *, engine: Engine, disks: DiskFiles, launcher: Launcher, instance_id: str) -> None:
        self._engine = engine
        self._disks = disks
        self._launcher = launcher
        self._label = f"{INSTANCE_LABEL}={instance_id}"

    def reap(
        self, keep: Collection[str], *, ours: Collection[str], busy: Collection[str], filling: bool
    ) -> Collection[str]:
        """Blocking. The ids of the runtimes of which something was removed.

        `keep`: runtimes whose workspaces stay. `ours`: containers that this driver object holds. `busy`: runtimes that
        it holds or starts. `filling`: it makes something just now, for its pool too, that is in neither.
        """
        removed = set()
        for container in self._engine.containers(self._label):
            runtime_id = self._runtime_of(container)
            if container["Id"] in ours or runtime_id in busy or (filling and runtime_id.startswith(POOL_PREFIX)):
                continue
            self._engine.remove(container["Id"])
            removed.add(runtime_id)
        kept = {*keep, *busy}
        for volume in self._engine.volumes(self._label):
            runtime_id = str((volume.get("Labels") or {}).get(RUNTIME_LABEL, ""))
            if volume["Name"] == self._launcher.name_of(runtime_id) and runtime_id not in kept:
                self._engine.remove_volume(volume["Name"])
                removed.add(runtime_id)
        self._launcher.let_go()
        for runtime_id in list(self._disks.ids()):
            if runtime_id in kept or (filling and runtime_id.startswith(POOL_PREFIX)):
                continue
            self._disks.delete(runtime_id)
            removed.add(runtime_id)
        if not filling:
            self._disks.sweep()
        return removed

    def _runtime_of(self, container: dict[str, Any]) -> str:
        # By its name first: one that was claimed from the pool keeps the label that it was made with.
        prefix = "/" + self._launcher.name_of("")
        for name in container.get("Names") or ():
            if str(name).startswith(prefix):
                return str(name)[len(prefix) :]
        labels = container.get("Labels")
        return str(labels.get(RUNTIME_LABEL, "")) if isinstance(labels, dict) else ""
