"""What a space's runtimes use of its limits, and whether one more fits."""

from __future__ import annotations

from collections.abc import Iterable

from mcp_spaces.core.limits import Limits
from mcp_spaces.errors import Conflict, NotFound, QuotaExceeded, WrongState
from mcp_spaces.spaces.model import Runtime, Space, SpaceState
from mcp_spaces.state.chain import Sealer
from mcp_spaces.state.sealed import unseal
from mcp_spaces.state.transaction import Transaction


def used_by(runtimes: Iterable[Runtime]) -> Limits:
    """The sum of what is set aside: processors and memory while it runs, disk as long as the workspace exists."""
    everything = list(runtimes)
    running = [one for one in everything if one.holds]
    return Limits(
        cpu_cores=sum(one.ceiling.limits.cpu_cores for one in running),
        memory_bytes=sum(one.ceiling.limits.memory_bytes for one in running),
        disk_bytes=sum(one.ceiling.limits.disk_bytes for one in everything),
        runtimes=len(running),
    )


def _plain(amount: float) -> str:
    return f"{amount:,.0f}" if float(amount).is_integer() else f"{amount:g}"


def check_room(tx: Transaction, sealer: Sealer, runtime: Runtime, *, space_version: int | None) -> None:
    """Inside the transaction that stores `runtime`, so that a space that was narrowed meanwhile counts (threat T09).

    Raises NotFound, WrongState (the space is stopped), Conflict (it changed, or the alias is taken), QuotaExceeded.
    """
    row = tx.one("SELECT id, body, mac FROM spaces WHERE id = ?", (runtime.space_id,))
    if row is None:
        raise NotFound("No such space.", hint="space_list shows the spaces that you can see.")
    space = unseal(sealer, "spaces", row, Space)
    if space.state is not SpaceState.RUNNING:
        raise WrongState(f"Space {space.name} is stopped.", hint=f"Start it: space_up space={space.id}")
    if space_version is not None and space.version != space_version:
        raise Conflict("The space changed meanwhile.", hint="Repeat the call: it is judged by the new ceiling.")
    others = [
        unseal(sealer, "runtimes", other, Runtime)
        for other in tx.all("SELECT id, body, mac FROM runtimes WHERE space_id = ?", (space.id,))
        if other["id"] != runtime.id
    ]
    if any(other.alias == runtime.alias for other in others):
        raise Conflict(f"The alias {runtime.alias!r} is taken in this space.", hint="Choose another alias.")
    limits, use = space.ceiling.limits, used_by([*others, runtime])
    for name in sorted(use.model_fields_set):
        used, limit = getattr(use, name), getattr(limits, name)
        if used > limit:
            # What has stopped keeps its disk.
            way = "Delete" if name == "disk_bytes" else "Stop or delete"
            raise QuotaExceeded(
                f"The space's {name} would be {_plain(used)} of {_plain(limit)}.",
                hint=f"{way} a runtime, or ask for a smaller one (scope.limits).",
            )
