"""`python -m benchmarks [SUBJECT…] [--json FILE]`: measure, and print one table."""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from benchmarks import (
    browsers,
    commands,
    context_cost,
    driver,
    files,
    gateway,
    history,
    launches,
    load,
    memory,
    output,
    pipeline,
    redaction,
    startup,
    vault,
)
from benchmarks.measure import HIGHER_IS_BETTER, Line, Series, Unit

PLAIN_WIDTH = 190
"""Columns where nobody looks: in a file or a log."""

SUBJECTS: dict[str, Callable[[], Iterator[Line]]] = {
    "startup": startup.lines,
    "driver": driver.lines,
    "commands": commands.lines,
    "files": files.lines,
    "launches": launches.lines,
    "gateway": gateway.lines,
    "browsers": browsers.lines,
    "context": context_cost.lines,
    "load": load.lines,
    "pipeline": pipeline.lines,
    "output": output.lines,
    "memory": memory.lines,
    "history": history.lines,
    "vault": vault.lines,
    "redaction": redaction.lines,
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("subjects", nargs="*", metavar="SUBJECT", help=", ".join(SUBJECTS))
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every figure there")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="also write the table there, as in docs/")
    chosen = parser.parse_args()
    unknown = set(chosen.subjects) - SUBJECTS.keys()
    if unknown:
        parser.error(f"no such subject: {', '.join(sorted(unknown))}. There are: {', '.join(SUBJECTS)}")
    console = Console(highlight=False, width=None if sys.stdout.isatty() else PLAIN_WIDTH)
    found: list[Line] = []
    with console.status("") as status:
        for name in chosen.subjects or SUBJECTS:
            status.update(f"measuring: {name}")
            for line in SUBJECTS[name]():
                found.append(line)
                console.print(f"[dim]{escape(line.what)}: {_shown(line.ours.median, line.unit)} {line.unit}[/]")
    console.print(table(found))
    if chosen.json:
        chosen.json.write_text(json.dumps(report(found), indent=2, ensure_ascii=False) + "\n", "utf-8")
    if chosen.markdown:
        chosen.markdown.write_text(markdown(found), "utf-8")
    return 0


def markdown(lines: list[Line]) -> str:
    rows = [
        "| what | p50 | p95 | quietest | n | target | | baseline | better by |",
        "|---|--:|--:|--:|--:|---|---|---|--:|",
    ]
    for line in lines:
        mark = "" if not line.targets else "**misses**" if line.missed else "✓"
        base = f"{_shown(line.baseline.median, line.unit)} · {line.against}" if line.baseline else ""
        worst = _shown(line.ours.p95, line.unit) if len(line.ours.values) > 1 else ""
        cells = (
            line.what,
            f"{_shown(line.ours.median, line.unit)} {line.unit}",
            worst,
            _quietest(line),
            str(len(line.ours.values)),
            ", ".join(target.words(line.unit) for target in line.targets),
            mark,
            base,
            _advantage(line),
        )
        rows.append("| " + " | ".join(cells) + " |")
    day = datetime.datetime.now(datetime.UTC).date()
    busy = ", ".join(f"{one:.1f}" for one in os.getloadavg())
    return f"{machine()}; {day}; load average at the end {busy}.\n\n" + "\n".join(rows) + "\n"


def table(lines: list[Line]) -> Table:
    drawn = Table(title=machine(), title_justify="left", title_style="dim", header_style="bold", box=None)
    drawn.add_column("what")
    for name in ("p50", "p95", "quietest", "unit", "n", "target", "", "baseline p50", "baseline", "better by"):
        drawn.add_column(name, justify="left" if name in ("unit", "target", "", "baseline") else "right")
    for line in lines:
        mark = "" if not line.targets else "[red]misses[/]" if line.missed else "[green]✓[/]"
        drawn.add_row(
            escape(line.what),
            f"[bold]{_shown(line.ours.median, line.unit)}[/]",
            _shown(line.ours.p95, line.unit) if len(line.ours.values) > 1 else "",
            _quietest(line),
            line.unit,
            str(len(line.ours.values)),
            ", ".join(target.words(line.unit) for target in line.targets),
            mark,
            _shown(line.baseline.median, line.unit) if line.baseline else "",
            escape(line.against),
            _advantage(line),
        )
    return drawn


def report(lines: list[Line]) -> dict[str, Any]:
    return {
        "machine": machine(),
        "at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "load_average": os.getloadavg(),
        "lines": [
            {
                "what": line.what,
                "unit": line.unit,
                "ours": _numbers(line.ours),
                "against": line.against or None,
                "baseline": _numbers(line.baseline) if line.baseline else None,
                "targets": [target.words(line.unit) for target in line.targets],
                "met": None if not line.targets else not line.missed,
            }
            for line in lines
        ],
    }


def machine() -> str:
    name = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    return f"{os.cpu_count()} × {name}, {platform.system()} {platform.release()}, Python {platform.python_version()}"


def _advantage(line: Line) -> str:
    """How many times better than the baseline; below 1 it is worse."""
    if line.baseline is None or not line.ours.median or not line.baseline.median:
        return ""
    ratio = line.baseline.median / line.ours.median
    return f"{1 / ratio if line.unit in HIGHER_IS_BETTER else ratio:.2g} ×"


def _quietest(line: Line) -> str:
    value = line.ours.quietest if line.unit == "ms" else None
    return "" if value is None else _shown(value, line.unit)


def _numbers(series: Series) -> dict[str, float]:
    return {"p50": series.median, "p95": series.p95, "count": len(series.values)}


def _shown(value: float, unit: Unit) -> str:
    if unit in ("bytes", "tools", "tokens"):
        return f"{value:,.0f}"
    return f"{value:,.2f}" if value < 10 else f"{value:,.1f}" if value < 100 else f"{value:,.0f}"


if __name__ == "__main__":
    sys.exit(main())
