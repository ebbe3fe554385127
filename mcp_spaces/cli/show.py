"""Answers for people: tables, records and prose, in which untrusted text is shown and never obeyed (threat S19)."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TextIO

from mcp_spaces.server.text import HIDDEN_IN_JSON, as_prose

if TYPE_CHECKING:
    from rich.console import Console

PLAIN_WIDTH = 100_000
"""Beyond any row: what goes into a pipe is never wrapped or cut."""
GAP = 2
TEXT_WIDTH = 24
"""What a column of longer texts gets on a terminal, at least."""
ID = re.compile(r"\b[a-z]{2,8}_[a-z2-7]{16,}\b")
NO_LIMIT = 1 << 62
"""What the operator's own scope holds of everything."""
UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def say(line: str) -> None:
    """A remark beside the answer."""
    _write(sys.stderr, line + "\n")


def say_error(message: str, hint: str = "") -> None:
    say(f"error: {message}")
    if hint:
        say(f"hint: {hint}")


def print_line(line: str) -> None:
    _write(sys.stdout, line + "\n")


def print_prose(text: str) -> None:
    _write(sys.stdout, text if text.endswith("\n") or not text else text + "\n")


def print_json(value: object) -> None:
    """One document of which every character may be shown on a terminal."""
    written = json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False)
    escaped = HIDDEN_IN_JSON.sub(lambda found: json.dumps(found.group())[1:-1], written)
    # Half a surrogate pair has no UTF-8.
    sys.stdout.buffer.write(escaped.encode("utf-8", "backslashreplace") + b"\n")
    sys.stdout.flush()


def print_table(rows: Sequence[Mapping[str, Any]], columns: Iterable[str] = ()) -> None:
    """A header, and one row each. Without `columns`: every key that some row has, in order of appearance; where a
    terminal has no room for them, each row becomes lines of its own.

    With them, the last ones are left out on a terminal that is too narrow, so that a row stays one line.
    """
    console, chosen = _console(), list(columns)
    if not chosen:
        _print_rows(console, rows, indent=0)
        return
    names = _fitting(rows, chosen, width=console.width) if console.is_terminal else chosen
    _print_table(console, rows, names, indent=0)
    if left_out := ", ".join(chosen[len(names) :]):
        say(f"left out for lack of room: {left_out} (--json has everything)")


def print_record(record: Mapping[str, Any]) -> None:
    """Keys and values below each other; what is nested is indented, a list of objects is a table."""
    _print_record(_console(), record, indent=0)


def print_answer(content: Mapping[str, Any] | str) -> None:
    """Any operation's answer, by its shape."""
    if isinstance(content, str):
        print_prose(content)
        return
    said = {
        name: value for name, value in content.items() if name not in ("next_cursor", "truncated", "items_left_out")
    }
    match list(said.items()):
        case [(_, list() as rows)] if all(isinstance(row, dict) for row in rows):
            if rows:
                print_table(rows)
            else:
                say("none")
        case [(_, list() as lines)]:
            for line in lines:
                print_line(cell("", line))
        case _:
            print_record(said)
    say_rest(content)


def say_rest(content: Mapping[str, Any], *, more: str = "") -> None:
    """What is not shown, and how to get it: by the same command, or by `more`."""
    if content.get("next_cursor"):
        command = f"{more} " if more else ""
        say(f"more: {command}--cursor {content['next_cursor']}")
    match content.get("truncated"):
        case {"characters": total, "rest": rest}:
            say(f"cut: the whole answer has {total} characters. {rest}")
        case True:
            say("cut: there is more than is shown here")
        case _:
            pass


def cell(name: str, value: object) -> str:
    """One value on one line. The unit in a name says how a number is to be read."""
    match value:
        case None:
            return "-"
        case bool():
            return "yes" if value else "no"
        case int() | float() if name == "at" or name.endswith("_at"):
            return datetime.fromtimestamp(value, UTC).isoformat(timespec="seconds")
        case int() | float() if value >= NO_LIMIT:
            return "no limit"
        case int() | float() if name.endswith("bytes"):
            return amount(value)
        case float() if value.is_integer():
            return str(int(value))
        case float():
            return f"{value:g}"
        case str():
            return as_prose(value).replace("\n", "\\n").replace("\t", "\\t")
        case list() if all(isinstance(one, str | int | float) for one in value):
            return ", ".join(cell("", one) for one in value) or "-"
        case dict() if not any(isinstance(inner, list | dict) for inner in value.values()):
            return ", ".join(f"{cell('', key)} {cell(key, inner)}" for key, inner in value.items()) or "-"
        case list() | dict():
            return as_prose(json.dumps(value, ensure_ascii=False))
        case _:
            return as_prose(str(value))


def amount(size_bytes: float) -> str:
    """In the largest unit that it fills: `1.5 GiB`."""
    for unit in UNITS:
        if size_bytes < 1024 or unit == UNITS[-1]:
            return f"{size_bytes:.1f}".removesuffix(".0") + f" {unit}"
        size_bytes /= 1024
    raise AssertionError("the last unit takes any size")


def _write(stream: TextIO, text: str) -> None:
    stream.write(as_prose(text).encode(stream.encoding or "utf-8", "replace").decode(stream.encoding or "utf-8"))
    stream.flush()


def _fitting(rows: Sequence[Mapping[str, Any]], names: Sequence[str], *, width: int) -> list[str]:
    """As many of the first columns as fit; never less than two."""
    needed = 0
    for count, name in enumerate(names):
        needed += _least(name, rows) + GAP
        if needed - GAP > width and count >= 2:
            return list(names[:count])
    return list(names)


def _least(name: str, rows: Sequence[Mapping[str, Any]]) -> int:
    """The narrowest that a column may get: an id in it stays on one line, a long text is folded."""
    cells = [cell(name, row.get(name)) for row in rows]
    longest = max(map(len, cells), default=0)
    whole = longest if _is_whole(name) else max((len(one) for text in cells for one in ID.findall(text)), default=0)
    return max(len(cell("", name)), whole, min(longest, TEXT_WIDTH))


def _widths(rows: Sequence[Mapping[str, Any]], names: Sequence[str], *, width: int) -> list[int]:
    """Of each column: what it needs at least, and of the rest of the room as much as it has a use for."""
    widths = [_least(name, rows) for name in names]
    more = [max((len(cell(name, row.get(name))) for row in rows), default=0) for name in names]
    room = width - sum(widths) - GAP * (len(names) - 1)
    by_need = sorted(range(len(names)), key=lambda at: more[at] - widths[at])
    for done, at in enumerate(by_need):
        given = max(0, min(more[at] - widths[at], room // (len(names) - done)))
        widths[at] += given
        room -= given
    return widths


def _console() -> Console:
    from rich.console import Console

    console = Console(markup=False, emoji=False, highlight=False)
    if not console.is_terminal:
        console.width = PLAIN_WIDTH
    return console


def _print_record(console: Console, record: Mapping[str, Any], *, indent: int) -> None:
    margin = " " * indent
    width = max((len(name) for name, value in record.items() if not _nested(value)), default=0)
    for name, value in record.items():
        shown = cell("", name)
        if isinstance(value, dict) and _alike(value):
            print_line(f"{margin}{shown}")
            _print_table(console, *_as_table(value), indent=indent + 2)
        elif isinstance(value, dict) and _nested(value):
            print_line(f"{margin}{shown}")
            _print_record(console, value, indent=indent + 2)
        elif isinstance(value, list) and _nested(value):
            print_line(f"{margin}{shown}")
            _print_rows(console, value, indent=indent + 2)
        elif _sentences(value):
            print_line(f"{margin}{shown}")
            for one in value:
                print_line(f"{margin}  {cell('', one)}")
        elif isinstance(value, str) and "\n" in value.rstrip("\n"):
            print_line(f"{margin}{shown}")
            for line in value.rstrip("\n").split("\n"):
                # The bar tells the text's own lines from ours.
                print_line(f"{margin}  | {line}")
        else:
            print_line(f"{margin}{shown:<{width}}  {cell(name, value)}")


def _sentences(value: object) -> bool:
    """Texts that would not be told apart with commas between them."""
    return (
        isinstance(value, list) and len(value) > 1 and all(isinstance(one, str) and one.endswith(".") for one in value)
    )


def _alike(value: Mapping[str, Any]) -> bool:
    """Whether it is a map of small objects, such as limits with `used` and `limit`: a table in disguise."""
    inner = list(value.values())
    if len(inner) < 2 or not all(isinstance(one, dict) and not any(map(_nested, one.values())) for one in inner):
        return False
    return bool(set.intersection(*(set(one) for one in inner)))


def _as_table(value: Mapping[str, Mapping[str, Any]]) -> tuple[list[dict[str, Any]], list[str]]:
    """What the key says of a number, as its unit, holds for the whole row."""
    columns = ["", *dict.fromkeys(key for one in value.values() for key in one)]
    rows = [{"": name} | {key: cell(name, inner) for key, inner in one.items()} for name, one in value.items()]
    return rows, columns


def _is_whole(name: str) -> bool:
    """An id that is cut or wrapped cannot be copied; a time that is, hardly read."""
    return name == "id" or name.endswith(("_id", "_at"))


def _nested(value: object) -> bool:
    match value:
        case dict():
            return bool(value)
        case list():
            return bool(value) and all(isinstance(one, dict) for one in value)
        case _:
            return False


def _print_rows(console: Console, rows: Sequence[Mapping[str, Any]], *, indent: int) -> None:
    """As a table of every key, or where that has no room as one record after the other."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    needed = indent + sum(_least(name, rows) + GAP for name in names) - GAP
    if needed <= console.width:
        _print_table(console, rows, names, indent=indent)
        return
    for number, row in enumerate(rows):
        if number:
            print_line("")
        _print_record(console, row, indent=indent)


def _print_table(console: Console, rows: Sequence[Mapping[str, Any]], names: Sequence[str], *, indent: int) -> None:
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    widths: Sequence[int | None] = [None] * len(names)
    if console.is_terminal:
        widths = _widths(rows, names, width=console.width - indent)
    table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="bold")
    for name, width in zip(names, widths, strict=True):
        whole = not console.is_terminal or _is_whole(name)
        table.add_column(Text(cell("", name)), width=width, no_wrap=whole, overflow="ignore" if whole else "fold")
    for row in rows:
        table.add_row(*(Text(cell(name, row.get(name))) for name in names))
    with console.capture() as captured:
        console.print(Padding(table, (0, 0, 0, indent)) if indent else table)
    for line in captured.get().splitlines():
        sys.stdout.write(line.rstrip() + "\n")
    sys.stdout.flush()
