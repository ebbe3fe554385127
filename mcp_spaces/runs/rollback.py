"""Is the newest record the newest that there was? Asked before the first write after a start (threat K13).

The next commit moves the anchor, and with it the proof that rows behind it are gone. So a start refuses until an
operator, who may have put a backup back, takes it as it is; that stands in the audit log.
"""

from __future__ import annotations

from mcp_spaces.core.ids import Clock
from mcp_spaces.core.journal import encode
from mcp_spaces.errors import WrongState
from mcp_spaces.state.chain import Anchor, Link
from mcp_spaces.state.database import ANCHOR_NAME, Database

ACCEPTED = "rollback_accepted"


async def refuse_rollback(database: Database, clock: Clock, *, accepted: bool) -> None:
    """Raises WrongState where the anchor is ahead of the chain, names another row, or is missing; unless `accepted`."""
    path = database.path.parent / ANCHOR_NAME
    try:
        anchor = Anchor.read(path)
        found = _lost(database, anchor)
    except (ValueError, OSError):
        anchor, found = None, f"{path} is damaged"
    if found is None:
        return
    if not accepted:
        raise WrongState(
            f"The newest records are not the newest that there were: {found}.",
            hint="If you put an older copy of the database back, such as a backup, say so once: mcp-spaces serve"
            f" --accept-rollback --state-dir {path.parent}. Otherwise keep {path.parent} as it is: it is the evidence.",
        )
    body = encode({"found": found, "anchor": None if anchor is None else anchor.receipt})
    await database.write(lambda tx: tx.append_audit(at=clock.now(), kind=ACCEPTED, run_id="", body=body))


def _lost(database: Database, anchor: Link | None) -> str | None:
    newest = database.read_one("SELECT max(seq) AS seq FROM audit")
    last = 0 if newest is None or newest["seq"] is None else int(newest["seq"])
    if anchor is None:
        return f"{ANCHOR_NAME} is missing or empty beside {last} audit rows" if last else None
    if anchor.seq > last:
        return f"{ANCHOR_NAME} stands at audit row {anchor.seq}, the database ends at {last}"
    row = database.read_one("SELECT mac FROM audit WHERE seq = ?", (anchor.seq,))
    if anchor.seq > 0 and (row is None or row["mac"] != anchor.mac):
        return f"audit row {anchor.seq} is another one than {ANCHOR_NAME} names"
    return None
