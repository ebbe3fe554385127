"""Reading run records: who may see which, and lists whose cost does not grow with the number of runs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from heapq import merge
from itertools import islice

from mcp_spaces.core.caller import Caller
from mcp_spaces.errors import NotFound
from mcp_spaces.runs.model import EventView, RunLine, RunView
from mcp_spaces.spaces.port import Spaces
from mcp_spaces.state.database import Database
from mcp_spaces.state.transaction import Row
from mcp_spaces.storage.model import iso

SCAN_MAX = 2_000
"""Records of one space looked through for one page. A filter that matches rarely gives short pages, not slow ones."""

TELLING = ("command", "pattern", "path", "url", "operation", "secret", "job", "run", "name", "alias")
"""Arguments that say what a call was about, the most telling first."""
ABOUT_CHARACTERS = 80

_LINE = "seq, id, parent_id, operation, principal_id, space_id, runtime_id, state, started_at, ended_at, error_code"


@dataclass(frozen=True, slots=True)
class Filters:
    operation: str | None = None
    state: str | None = None
    parent: str | None = None


@dataclass(frozen=True, slots=True)
class RunPage:
    """Newest first. `next_before` is absent when there is no more; a page may be short, or empty, before that."""

    rows: Sequence[Row]
    next_before: int | None


@dataclass(frozen=True, slots=True)
class _Source:
    """One index of runs, newest first."""

    condition: str
    parameters: tuple[object, ...]


class RunStore:
    def __init__(self, database: Database, spaces: Spaces) -> None:
        self._database = database
        self._spaces = spaces

    def may_see(self, caller: Caller, *, space_id: str | None, principal_id: str) -> bool:
        """A run is seen with its space, and by whoever made it. A key that is bound to spaces sees only those."""
        if caller.operator and caller.spaces is None:
            return True
        if space_id and self._spaces.may_see(caller, space_id):
            return True
        return caller.spaces is None and principal_id == caller.principal_id

    def row(self, caller: Caller, run_id: str) -> Row:
        """Raises NotFound: absent and foreign alike, with the same text (threat T02)."""
        row = self._database.read_one("SELECT * FROM runs WHERE id = ?", (run_id,))
        if row is None or not self.may_see(caller, space_id=row["space_id"], principal_id=row["principal_id"]):
            raise no_such_run()
        return row

    def page(
        self, caller: Caller, *, space_id: str | None, filters: Filters, before: int, limit: int, besides: str
    ) -> RunPage:
        """What the caller may see, older than `before`, merged from one index for each space. The run `besides` is
        left out, and takes nobody's place."""
        if filters.parent is not None or filters.state == "running":
            rows, floor = self._narrow(caller, space_id=space_id, filters=filters, before=before)
        else:
            found: list[list[Row]] = []
            floor = 0
            for source in self._sources(caller, space_id):
                some, scanned_to = self._scan(source, filters, before=before, limit=limit + 2)
                found.append(some)
                floor = max(floor, scanned_to)
            rows = _distinct(found)
        return _cut([row for row in rows if row["id"] != besides], floor=floor, limit=limit)

    def abouts(self, rows: Sequence[Row]) -> list[str | None]:
        """What each of them was called with, in short; None where that is nothing that has a name."""
        marks = ", ".join("?" * len(rows))
        found = self._database.read(
            f"SELECT seq, input FROM runs WHERE seq IN ({marks})",  # noqa: S608 - question marks
            tuple(row["seq"] for row in rows),
        )
        by_seq = {row["seq"]: about(json_or_text(row["input"])) for row in found}
        return [by_seq.get(row["seq"]) for row in rows]

    def view(self, row: Row) -> RunView:
        children = self._database.read_one("SELECT count(*) AS n FROM runs WHERE parent_id = ?", (row["id"],))
        return RunView(
            **line(row).model_dump(),
            decision=json_or_text(row["decision"]),
            input=json_or_text(row["input"]),
            outcome=json_or_text(row["outcome"]),
            children=0 if children is None else children["n"],
        )

    def children(self, run_id: str, *, limit: int) -> list[Row]:
        return self._database.read("SELECT * FROM runs WHERE parent_id = ? ORDER BY seq LIMIT ?", (run_id, limit))

    def events(self, run_id: str, *, after: int, limit: int) -> list[EventView]:
        rows = self._database.read(
            "SELECT seq, at, type, body FROM events WHERE run_id = ? AND seq > ? ORDER BY seq LIMIT ?",
            (run_id, after, limit),
        )
        return [
            EventView(cursor=row["seq"], at=iso(row["at"]), type=row["type"], body=json_or_text(row["body"]))
            for row in rows
        ]

    def _sources(self, caller: Caller, space_id: str | None) -> list[_Source]:
        if space_id is not None:
            return [_Source("space_id = ?", (space_id,))]
        if caller.operator and caller.spaces is None:
            return [_Source("1", ())]
        sources = [_Source("space_id = ?", (space.id,)) for space in self._spaces.visible(caller)]
        if caller.spaces is None:
            sources.append(_Source("principal_id = ?", (caller.principal_id,)))
        return sources

    def _scan(self, source: _Source, filters: Filters, *, before: int, limit: int) -> tuple[list[Row], int]:
        """Matches, newest first, and the seq below which nothing was looked at (0: all was)."""
        inner = f"FROM runs WHERE {source.condition} AND seq < ? ORDER BY seq DESC"
        place = (*source.parameters, before)
        wanted = [
            (name, value) for name, value in (("operation", filters.operation), ("state", filters.state)) if value
        ]
        if not wanted:
            return self._database.read(f"SELECT {_LINE} {inner} LIMIT ?", (*place, limit)), 0
        last = self._database.read_one(f"SELECT seq {inner} LIMIT 1 OFFSET {SCAN_MAX - 1}", place)
        rows = self._database.read(
            f"SELECT {_LINE} FROM (SELECT {_LINE} {inner} LIMIT {SCAN_MAX})"  # noqa: S608 - fixed texts
            f" WHERE {' AND '.join(f'{name} = ?' for name, _ in wanted)} LIMIT ?",
            (*place, *(value for _, value in wanted), limit),
        )
        # A full page was cut before the scan's end, so everything down to its last row was looked at.
        return rows, 0 if last is None or len(rows) == limit else last["seq"]

    def _narrow(self, caller: Caller, *, space_id: str | None, filters: Filters, before: int) -> tuple[list[Row], int]:
        """Children of one run, or what runs now: few enough to look at each. And the seq, as `_scan`."""
        parent = filters.parent
        if parent is not None:
            source = _Source("parent_id = ?", (self.row(caller, parent)["id"],))
        else:
            source = _Source("ended_at IS NULL", ())
        rest = Filters(filters.operation, filters.state)
        rows, floor = self._scan(source, rest, before=before, limit=SCAN_MAX)
        seen = [
            row
            for row in rows
            if (space_id is None or row["space_id"] == space_id)
            and self.may_see(caller, space_id=row["space_id"], principal_id=row["principal_id"])
        ]
        if len(rows) == SCAN_MAX:
            floor = rows[-1]["seq"]
        return seen, floor


def line(row: Row) -> RunLine:
    ended = row["ended_at"]
    return RunLine(
        id=row["id"],
        operation=row["operation"],
        state=row["state"],
        error_code=row["error_code"],
        parent=row["parent_id"],
        principal=row["principal_id"],
        space=row["space_id"],
        runtime=row["runtime_id"],
        started_at=iso(row["started_at"]),
        duration_ms=None if ended is None else round((ended - row["started_at"]) * 1000, 1),
    )


def about(given: object) -> str | None:
    """What a call was about, from its recorded input; None where that has no name."""
    if not isinstance(given, dict):
        return None
    kept = (given.get(name) for name in TELLING)
    texts = (one.get("start") if isinstance(one, dict) else one for one in kept)
    text = next((one for one in texts if isinstance(one, str) and one), None)
    if text is None or len(text) <= ABOUT_CHARACTERS:
        return text
    return text[: ABOUT_CHARACTERS - 1] + "…"


def no_such_run() -> NotFound:
    return NotFound("No such run.", hint="run_list shows the runs that you can see.")


def _distinct(sources: list[list[Row]]) -> list[Row]:
    """Newest first, each run once: it can stand in its space's list and in its principal's."""
    ordered: list[Row] = []
    for row in merge(*sources, key=lambda row: -row["seq"]):
        if not ordered or ordered[-1]["seq"] != row["seq"]:
            ordered.append(row)
    return ordered


def _cut(rows: list[Row], *, floor: int, limit: int) -> RunPage:
    """`floor`: below it some source was not looked at, so nothing from there may be shown yet."""
    known = [row for row in rows if row["seq"] >= floor]
    page = list(islice(known, limit))
    if len(known) > limit:
        return RunPage(page, page[-1]["seq"])
    return RunPage(page, floor or None)


def json_or_text(text: str | None) -> object:
    """A record that was damaged is shown as it is."""
    if text is None:
        return None
    try:
        value: object = json.loads(text)
    except ValueError:
        return text
    return value
