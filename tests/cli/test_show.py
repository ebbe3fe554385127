"""Answers for people."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import typer

from mcp_spaces.cli import answers, show
from mcp_spaces.cli.wire import Answer
from mcp_spaces.core.scope import EVERYTHING


def test_a_pipe_gets_whole_rows_without_colours(capsys: pytest.CaptureFixture[str]) -> None:
    show.print_table([{"id": "sp_1", "note": "x" * 500}, {"id": "sp_22", "note": None}])
    assert capsys.readouterr().out.splitlines() == [
        "id     note",
        "sp_1   " + "x" * 500,
        "sp_22  -",
    ]


def test_units_in_names_say_how_numbers_are_read() -> None:
    assert show.cell("memory_bytes", 1 << 30) == "1 GiB"
    assert show.cell("memory_bytes", 1536) == "1.5 KiB"
    assert show.cell("created_at", 0) == "1970-01-01T00:00:00+00:00"
    assert show.cell("at", 0.5) == "1970-01-01T00:00:00+00:00"
    assert show.cell("limit", 600.0) == "600"
    assert show.cell("force", value=True) == "yes"


def test_what_holds_everything_has_no_limit() -> None:
    assert {show.cell(name, EVERYTHING.limits.model_dump()[name]) for name in EVERYTHING.limits.model_dump()} == {
        "no limit"
    }


def test_sentences_of_a_list_stand_below_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    show.print_record({"rules": ["Files: read and write.", "Shell: 237 commands, at most 60 s."], "names": ["a", "b"]})
    assert capsys.readouterr().out.splitlines() == [
        "rules",
        "  Files: read and write.",
        "  Shell: 237 commands, at most 60 s.",
        "names  a, b",
    ]


def test_limits_with_use_are_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    show.print_record({"limits": {"pids": {"limit": 512}, "disk_bytes": {"used": 0, "limit": 1 << 30}}})
    assert capsys.readouterr().out.splitlines() == [
        "limits",
        "              limit  used",
        "  pids        512    -",
        "  disk_bytes  1 GiB  0 B",
    ]


def test_what_is_left_out_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    show.print_answer({"runs": [{"id": "run_1"}], "next_cursor": "7"})
    printed = capsys.readouterr()
    assert printed.out.splitlines() == ["id", "run_1"]
    assert printed.err == "more: --cursor 7\n"


@pytest.mark.parametrize(
    ("state", "cursor", "told"),
    [("running", 3, ["more: --cursor 3"]), ("exited", 2, ["more: --cursor 2"]), ("exited", 3, [])],
)
def test_a_job_that_ended_and_was_read_has_no_more(
    state: str, cursor: int, told: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    job = {"job": "job_1", "state": state, "output_bytes": 3, "output": [], "next_cursor": cursor}
    answers.present("job.read", Answer(job), as_json=False)
    assert [line for line in capsys.readouterr().err.splitlines() if line.startswith("more")] == told


def test_an_empty_list_is_not_an_empty_screen(capsys: pytest.CaptureFixture[str]) -> None:
    show.print_answer({"keys": []})
    assert capsys.readouterr().err == "none\n"


def test_a_broken_audit_chain_ends_with_1(capsys: pytest.CaptureFixture[str]) -> None:
    broken = {"intact": False, "rows": 9, "meaning": "Row 4 was changed.", "broken_seq": 4}
    with pytest.raises(typer.Exit) as ended:
        answers.present("audit.verify", Answer(broken), as_json=False)
    assert ended.value.exit_code == 1
    assert capsys.readouterr().out == "9 rows: Row 4 was changed.\nthe first row that is wrong: 4\n"


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Standard output is a terminal of so many columns."""

    def of(columns: int) -> None:
        wanted = {"TTY_COMPATIBLE": "1", "FORCE_COLOR": "1", "TERM": "xterm", "COLUMNS": str(columns)}
        for name, value in wanted.items():
            monkeypatch.setenv(name, value)

    return of


def lines_of(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return [re.sub("\x1b\\[[0-9;]*m", "", line) for line in capsys.readouterr().out.splitlines()]


KEYS = [
    {
        "id": "key_" + one * 26,
        "label": "the pipeline that publishes what was merged, each night",
        "principal_id": "pr_" + one * 26,
        "spaces": ["sp_" + one * 26, "sp_" + "z" * 26],
        "operations": None,
        "operator": False,
        "created_at": 1_800_000_000.0,
        "expires_at": None,
        "revoked_at": None,
    }
    for one in "ab"
]
PRINCIPALS = [
    {
        "id": "pr_" + one * 26,
        "name": "local-agent",
        "kind": "agent",
        "policy": "standard",
        "scope": {"vault": {"allow": [], "deny": []}, "operations": ["*"], "limits": {"pids": 512, "runtimes": 8}},
    }
    for one in "ab"
]


@pytest.mark.parametrize("columns", [40, 80, 120, 160, 240])
@pytest.mark.parametrize("answer", [{"keys": KEYS}, {"principals": PRINCIPALS}], ids=["keys", "principals"])
def test_on_a_terminal_of_any_width_every_id_stands_on_one_line(
    answer: dict[str, Any], columns: int, terminal: Callable[[int], None], capsys: pytest.CaptureFixture[str]
) -> None:
    terminal(columns)
    show.print_answer(answer)
    lines = lines_of(capsys)
    shown = "\n".join(lines)
    for known in set(re.findall(r"[a-z]+_[a-z]{26}", str(answer))):
        assert re.search(rf"(?m)(^|\s){known}($|[\s,])", shown), known
    assert all(len(line) <= max(columns, 80) for line in lines)
    assert len(shown.split("local-agent" if "principals" in answer else "key_")) == 3


def test_a_long_text_folds_beside_whole_ids(
    terminal: Callable[[int], None], capsys: pytest.CaptureFixture[str]
) -> None:
    terminal(80)
    show.print_answer({"jobs": [{"id": "job_" + "a" * 26, "command": "word " * 30, "state": "running"}]})
    lines = lines_of(capsys)
    assert lines[0].split() == ["id", "command", "state"] and lines[1].startswith("job_" + "a" * 26 + "  word word")
    assert len(lines) > 4 and all(len(line) <= 80 for line in lines)


@pytest.mark.parametrize(("columns", "kept"), [("80", "memory"), ("200", "created_at")])
def test_on_a_terminal_a_row_stays_one_line(
    columns: str, kept: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"TTY_COMPATIBLE": "1", "FORCE_COLOR": "1", "TERM": "xterm", "COLUMNS": columns}.items():
        monkeypatch.setenv(name, value)
    row = {"id": "sp_" + "a" * 26, "name": "work", "role": "admin", "state": "running", "cpu": 2.0, "memory": "4 GiB"}
    more = {"disk": "10 GiB", "net": "none", "llm_tokens": None, "created_at": 1_800_000_000.0}
    show.print_table([row | more, row | more], answers.SPACE_COLUMNS)
    said = capsys.readouterr()
    lines = [re.sub("\x1b\\[[0-9;]*m", "", line) for line in said.out.splitlines()]
    assert len(lines) == 3
    assert all(len(line) <= int(columns) and str(row["id"]) in line for line in lines[1:])
    assert kept in lines[0]
    assert ("created_at" in said.err) == (columns == "80")


def test_a_small_object_in_a_table_is_read_without_braces(capsys: pytest.CaptureFixture[str]) -> None:
    limits = {"cpu_cores": 1.0, "memory_bytes": 1 << 30, "labels": None}
    show.print_table([{"id": "rt_1", "limits": limits, "more": {}, "deep": {"a": {"b": 1}}}])
    assert capsys.readouterr().out.splitlines()[1].split(maxsplit=1) == [
        "rt_1",
        'cpu_cores 1, memory_bytes 1 GiB, labels -  -     {"a": {"b": 1}}',
    ]


@pytest.mark.parametrize(
    ("operation", "content", "said"),
    [
        ("space.list", {"spaces": []}, "no spaces; make one: mcp-spaces space create NAME\n"),
        ("run.list", {"runs": []}, "no runs\n"),
        ("storage.browse", {"files": []}, "no files\n"),
    ],
)
def test_where_there_is_nothing_no_header_stands_alone(
    operation: str, content: dict[str, Any], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    answers.present(operation, Answer(content), as_json=False)
    assert capsys.readouterr() == ("", said)


def test_principals_show_what_they_reach_at_most(capsys: pytest.CaptureFixture[str]) -> None:
    def principal(name: str, **network: Any) -> dict[str, Any]:
        scope = EVERYTHING.model_dump(mode="json") | {"network": {"mode": "open", "allow": [], **network}}
        return {"id": f"pr_{name}", "name": name, "kind": "agent", "policy": "standard", "scope": scope}

    both = [principal("one"), principal("two", mode="allowlist", allow=["a.com", "b.com"])]
    answers.present("principal.list", Answer({"principals": both}), as_json=False)
    header, *rows = capsys.readouterr().out.splitlines()
    assert header.split()[-4:] == ["operations", "storage", "vault", "network"]
    assert [row.rpartition("  ")[2] for row in rows] == ["open", "a.com, b.com"]


def test_a_deleted_file_is_told_as_gone(capsys: pytest.CaptureFixture[str]) -> None:
    answers.present("storage.delete", Answer({"path": "a/b.txt", "size_bytes": 1536}), as_json=False)
    assert capsys.readouterr().out == "deleted a/b.txt, 1.5 KiB\n"


@pytest.mark.parametrize(("is_set", "said"), [(True, "a PIN is set\n"), (False, "a PIN is not set any more\n")])
def test_a_pin_that_is_set_or_cleared_is_told_in_a_sentence(
    is_set: bool,
    said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    answers.present(
        "pin.set" if is_set else "pin.clear", Answer({"is_set": is_set, "hint": "So it is."}), as_json=False
    )
    assert capsys.readouterr() == (said, "So it is.\n")
