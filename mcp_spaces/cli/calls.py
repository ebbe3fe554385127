"""Calling an operation from a command: who is asked, what is shown meanwhile, and how it ends."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mcp_spaces.cli import exits, pin, show
from mcp_spaces.cli.hints import for_terminal
from mcp_spaces.cli.wire import Answer, NoDaemon, OnProgress, Refusal, Request, Server
from mcp_spaces.server.text import as_prose

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

KEY_VARIABLE = "MCP_SPACES_KEY"
SERVER_VARIABLE = "MCP_SPACES_SERVER"
PIN_NEEDED = "pin_needed"
NOT_FOR_THIS_KEY = (
    "This key may not do that, or the server is older than this command. "
    "An operator's key is made with `mcp-spaces key create LABEL --operator`."
)

AsJson = Annotated[bool, typer.Option("--json", help="Print the answer as one JSON document.")]


@dataclass(frozen=True, slots=True)
class Target:
    """Which daemon the commands talk to: without `server`, the one of this machine."""

    server: str | None = None
    key_file: Path | None = None


def target(context: typer.Context) -> Target:
    chosen = context.find_object(Target)
    return chosen or Target()


def server(chosen: Target) -> Server:
    """Raises Refusal: no key for a remote daemon, or none that may be sent to it."""
    if chosen.server is None:
        from mcp_spaces.cli.local import LocalDaemon

        return LocalDaemon(os.environ, say=show.say)
    from mcp_spaces.cli.remote import RemoteDaemon

    return RemoteDaemon(chosen.server, key=_key(chosen.key_file))


def call(
    context: typer.Context,
    operation_id: str,
    arguments: Mapping[str, Any],
    *,
    as_json: bool = False,
    on_progress: OnProgress | None = None,
) -> Answer:
    """The answer of one operation. Errors are shown, and end the command. Without `on_progress` there is a bar."""
    request = Request(operation_id.replace(".", "_", 1), arguments)
    with failures(as_json=as_json):
        try:
            return _called(context, request, on_progress)
        except Refusal as refusal:
            if refusal.message == f"No operation {operation_id!r}.":
                raise Refusal(refusal.message, hint=NOT_FOR_THIS_KEY, code=refusal.code) from None
            if refusal.code != PIN_NEEDED or (typed := pin.asked()) is None:
                raise
        return _called(context, replace(request, pin=typed), on_progress)


def _called(context: typer.Context, request: Request, on_progress: OnProgress | None) -> Answer:
    with Meanwhile() as meanwhile:
        return server(target(context)).call(request, on_progress or meanwhile.tell)


@contextmanager
def failures(*, as_json: bool) -> Iterator[None]:
    """Show what goes wrong inside, and leave with its exit code."""
    try:
        yield
    except Refusal as refusal:
        show.say_error(refusal.message, for_terminal(refusal.hint))
        if as_json:
            print_error(
                refusal.message,
                hint=refusal.hint,
                code=refusal.code,
                retryable=refusal.retryable,
                details=refusal.details,
            )
        raise typer.Exit(exits.REFUSED) from None
    except NoDaemon as missing:
        show.say_error(missing.message, missing.hint)
        if as_json:
            print_error(missing.message, hint=missing.hint, code="no_daemon")
        raise typer.Exit(exits.NO_DAEMON) from None
    except KeyboardInterrupt:
        show.say("cancelled")
        raise typer.Exit(exits.CANCELLED) from None


def print_error(
    message: str, *, hint: str, code: str, retryable: bool = False, details: Mapping[str, Any] | None = None
) -> None:
    """The document that stands in for an answer."""
    said = {"code": code, "message": message, "hint": hint, "retryable": retryable, "details": dict(details or {})}
    show.print_json({"error": said})


class Meanwhile:
    """A progress bar on stderr, from the first report on, where a person watches."""

    def __init__(self) -> None:
        self._bars: Bars | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> Meanwhile:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bars is not None:
            self._bars.stop()

    def tell(self, done: float, total: float | None, message: str) -> None:
        if not sys.stderr.isatty():
            return
        words = as_prose(message).replace("\n", " ")
        if self._bars is None:
            self._bars = _bars()
            self._task = self._bars.add_task("", total=total)
            self._bars.start()
        assert self._task is not None  # noqa: S101 - made together with the bars
        self._bars.update(self._task, completed=done, total=total, description=words)


def _bars() -> Bars:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), BarColumn(), TimeElapsedColumn())
    return Progress(*columns, console=Console(stderr=True, markup=False, emoji=False), transient=True)


def _key(file: Path | None) -> str:
    if file is None:
        key = os.environ.get(KEY_VARIABLE, "")
    else:
        try:
            key = file.expanduser().read_text("ascii").strip()
            mode = file.expanduser().stat()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is no text"
            raise Refusal(
                f"{file} cannot be read: {reason}.", hint="Name the file that holds the key.", code="unauthenticated"
            ) from None
        if mode.st_uid == os.geteuid() and mode.st_mode & 0o077:
            show.say(f"warning: others may read {file}; run: chmod 600 {file}")
    if not key or not key.isascii() or not key.isprintable() or " " in key:
        where = KEY_VARIABLE if file is None else str(file)
        raise Refusal(
            f"{where} holds no key.",
            hint="Give --key-file, with what `mcp-spaces key create` printed.",
            code="unauthenticated",
        )
    return key
