"""What the operator does with the records as a whole: prove them, read them, take a copy."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from mcp_spaces.core.answer import Answer
from mcp_spaces.core.context import Context
from mcp_spaces.core.effect import Effect
from mcp_spaces.core.operation import Audience, Operation
from mcp_spaces.core.place import Everywhere
from mcp_spaces.errors import InvalidInput
from mcp_spaces.runs.audit import Audit, AuditReport
from mcp_spaces.runs.backups import Backups
from mcp_spaces.runs.model import NEWEST, RowCursor
from mcp_spaces.runs.store import json_or_text
from mcp_spaces.state.chain import Link
from mcp_spaces.state.database import Database
from mcp_spaces.storage.model import iso


class AuditListInput(Everywhere):
    cursor: RowCursor | None = None
    limit: int = Field(default=50, ge=1, le=200)


class AuditRow(Answer):
    seq: int
    at: str
    kind: str
    run: str
    body: object
    receipt: str


class AuditPage(Answer):
    """Newest first."""

    rows: list[AuditRow]
    next_cursor: str | None = None


class BackupInput(Everywhere):
    path: str = Field(min_length=2, max_length=4000)
    """Absolute path of a new file on the daemon's machine."""
    include_files: bool = False
    """Also copy stored files and artifacts, to PATH.blobs."""


class BackedUp(Answer):
    path: str
    size_bytes: int
    files_path: str | None = None
    files_bytes: int | None = None
    keep_as_well: list[str]
    """Without these the copy cannot be used."""


class StateDescription(Answer):
    master_key: str | None = None
    """Where the vault's master key is; absent while there is no vault."""
    vault_locked: str | None = None
    """Why that key does not open it; absent where it does."""


async def describe(context: Context, _: Everywhere) -> StateDescription:
    backups = context.use(Backups)
    return StateDescription(master_key=backups.master_key(), vault_locked=await backups.locked_by())


async def verify(context: Context, _: Everywhere) -> AuditReport:
    return await context.use(Audit).verify()


async def list_rows(context: Context, wanted: AuditListInput) -> AuditPage:
    """Bodies as they were recorded: redacted, and texts that are no JSON as they are."""
    rows = context.use(Database).read(
        "SELECT seq, at, kind, run_id, body, mac FROM audit WHERE seq < ? ORDER BY seq DESC LIMIT ?",
        (NEWEST if wanted.cursor is None else int(wanted.cursor), wanted.limit + 1),
    )
    page = rows[: wanted.limit]
    return AuditPage(
        rows=[
            AuditRow(
                seq=row["seq"],
                at=iso(row["at"]),
                kind=row["kind"],
                run=row["run_id"],
                body=json_or_text(row["body"]),
                receipt=Link(seq=row["seq"], mac=row["mac"]).receipt,
            )
            for row in page
        ],
        next_cursor=str(page[-1]["seq"]) if len(rows) > wanted.limit else None,
    )


async def back_up(context: Context, wanted: BackupInput) -> BackedUp:
    """All of it, or nothing. Raises InvalidInput, Conflict (something is there), DiskFull, WrongState (cannot be written)."""
    target = Path(wanted.path)
    if not target.is_absolute() or not wanted.path.isprintable():
        raise InvalidInput("path has to be an absolute path.", hint="For example /var/backups/mcp-spaces.db")
    made = await context.use(Backups).make(target, include_files=wanted.include_files)
    return BackedUp(
        path=str(target),
        size_bytes=made.size_bytes,
        files_path=None if made.files_path is None else str(made.files_path),
        files_bytes=made.files_bytes,
        keep_as_well=list(made.keep_as_well),
    )


AUDIT_VERIFY = Operation(
    id="audit.verify",
    summary="Prove that no record was changed or removed.",
    input=Everywhere,
    output=AuditReport,
    effect=Effect.OBSERVES,
    handler=verify,
    audience=Audience.OPERATOR,
    listed=False,
    idempotent=True,
)
AUDIT_LIST = Operation(
    id="audit.list",
    summary="The audit chain's rows, newest first.",
    input=AuditListInput,
    output=AuditPage,
    effect=Effect.OBSERVES,
    handler=list_rows,
    audience=Audience.OPERATOR,
    listed=False,
    idempotent=True,
    example={"limit": 20},
)
STATE_DESCRIBE = Operation(
    id="state.describe",
    summary="Where this daemon keeps what the records alone do not hold.",
    input=Everywhere,
    output=StateDescription,
    effect=Effect.OBSERVES,
    handler=describe,
    audience=Audience.OPERATOR,
    listed=False,
    idempotent=True,
)
STATE_BACKUP = Operation(
    id="state.backup",
    summary="Copy the database, and the files where asked, while everything runs.",
    input=BackupInput,
    output=BackedUp,
    effect=Effect.GOVERNS,
    handler=back_up,
    audience=Audience.OPERATOR,
    listed=False,
    example={"path": "/var/backups/mcp-spaces.db", "include_files": True},
)
