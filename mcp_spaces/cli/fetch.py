"""Content that is longer than one answer, written to a file piece by piece (`--output`)."""

from __future__ import annotations

import base64
import binascii
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from mcp_spaces.cli import calls, show
from mcp_spaces.cli.wire import Refusal

PIECE_BYTES = 1 << 20
"""The most that one read gives. Keys of agents get what an answer for a model holds."""
READ_BY_RANGE = frozenset({"run.read_artifact", "sandbox.read_file", "storage.read"})
"""Operations that answer a piece of some content, and where the next one begins."""
EXPORT = "run.export"
RANGE = frozenset({"encoding", "limit", "lines", "offset", "start_line"})

Output = Annotated[
    Path | None,
    typer.Option("--output", "-o", metavar="FILE", help="Write the whole content to this file; - is standard output."),
]
STDOUT = Path("-")


def fetches(operation_id: str) -> bool:
    """Whether the operation's command has `--output`."""
    return operation_id in READ_BY_RANGE or operation_id == EXPORT


def fetch(context: typer.Context, operation_id: str, arguments: Mapping[str, Any], *, to: Path, as_json: bool) -> None:
    """Write all of it to `to`, which appears, or is replaced, only once it is whole. Errors end the command."""
    if ranged := sorted(RANGE & arguments.keys()):
        raise typer.BadParameter(f"--output writes the whole content: leave out {', '.join(ranged)}.", ctx=context)
    if to == STDOUT and (as_json or sys.stdout.isatty()):
        why = "--json wants it too" if as_json else "a terminal obeys what is in it"
        raise typer.BadParameter(f"--output - takes standard output for the content alone: {why}.", ctx=context)
    if operation_id == EXPORT:
        exported = calls.call(context, EXPORT, arguments, as_json=as_json).content
        assert isinstance(exported, dict)  # noqa: S101 - the operation's output is an object
        operation_id, arguments = "run.read_artifact", {"artifact": exported["artifact"]["id"]}

    def answer(given: Mapping[str, Any]) -> Mapping[str, Any]:
        content = calls.call(context, operation_id, {**arguments, **given}, as_json=as_json).content
        assert isinstance(content, dict)  # noqa: S101 - so is this one's
        return content

    with calls.failures(as_json=as_json):
        size_bytes = _written(to, answer)
    if to == STDOUT:
        return
    if as_json:
        show.print_json({"path": str(to), "size_bytes": size_bytes})
    else:
        show.print_line(f"wrote {show.cell('', str(to))}, {show.amount(size_bytes)}")


def _written(to: Path, answer: Callable[[Mapping[str, Any]], Mapping[str, Any]]) -> int:
    """Raises Refusal: it cannot be written, or what is read changed meanwhile."""
    size_bytes, beside = 0, ""
    try:
        if to == STDOUT:
            size_bytes = sum(map(sys.stdout.buffer.write, _pieces(answer)))
            sys.stdout.buffer.flush()
            return size_bytes
        if to.exists() and not to.is_file() and not to.is_dir():
            # A device or pipe is written to: put in its place, a file would take /dev/null from all of the machine.
            with to.open("wb") as stream:
                return sum(map(stream.write, _pieces(answer)))
        to = Path(os.path.realpath(to))
        descriptor, beside = tempfile.mkstemp(dir=to.parent, prefix=f".{to.name}.")
        with os.fdopen(descriptor, "wb") as file:
            for piece in _pieces(answer):
                size_bytes += file.write(piece)
        Path(beside).replace(to)
    except OSError as error:
        raise Refusal(f"{to} cannot be written: {error.strerror or error}.", hint="Name another file.") from None
    finally:
        if beside:
            Path(beside).unlink(missing_ok=True)
    return size_bytes


def _pieces(answer: Callable[[Mapping[str, Any]], Mapping[str, Any]]) -> Iterator[bytes]:
    asked: dict[str, Any] = {"encoding": "base64", "offset": 0, "limit": PIECE_BYTES}
    size_bytes = None
    while True:
        content = answer(asked)
        if isinstance(content.get("truncated"), dict) and "limit" in asked:
            del asked["limit"]
            continue
        if size_bytes not in (None, content["size_bytes"]):
            raise Refusal("It changed while it was read.", hint="Try again.", code="conflict", retryable=True)
        size_bytes = content["size_bytes"]
        try:
            yield base64.b64decode(content["content"], validate=True)
        except binascii.Error:
            raise Refusal("The server's answer is no base64.", hint="Update mcp-spaces.", code="protocol") from None
        if content.get("next_offset") is None:
            return
        asked["offset"] = content["next_offset"]
