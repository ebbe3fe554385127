"""One thing that the product can do, as one value. Everything else is derived from it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from pydantic import BaseModel

from mcp_spaces.core.effect import HINTS, Effect, Hints
from mcp_spaces.core.facts import Facts, NoFacts
from mcp_spaces.core.place import Everywhere, InRuntime, InSpace
from mcp_spaces.core.scope import Scope

if TYPE_CHECKING:
    from mcp_spaces.core.context import Context

I = TypeVar("I", bound=Everywhere)  # noqa: E741 - input and output, as in every signature below
O = TypeVar("O", bound=BaseModel)  # noqa: E741


class Audience(StrEnum):
    """Who may be permitted an operation at all."""

    EVERYONE = "everyone"
    OPERATOR = "operator"
    """Only over the operator's socket or with an operator's key (threats T20, T21)."""


def no_facts(_: Any) -> Facts:
    return NoFacts()


def anything(_: Any, __: Scope) -> None:
    """No input needs more of a scope than another."""


def always(_: Any) -> bool:
    return True


def never(_: Any) -> bool:
    return False


def any_scope(_: Scope) -> str | None:
    return None


@dataclass(frozen=True, kw_only=True, eq=False)
class Operation(Generic[I, O]):
    """Declared once, in its noun's room, and listed in `catalogue.py`."""

    id: str
    """`noun.verb`: the tool `noun_verb`, the command `mcp-spaces noun verb`, the anchor in the reference."""
    summary: str
    input: type[I]
    output: type[O]
    effect: Effect
    handler: Callable[[Context, I], Awaitable[O]]
    facts: Callable[[I], Facts] = no_facts
    """What policy may look at."""
    refused_by: Callable[[Scope], str | None] = any_scope
    """The part of a scope that leaves this operation nothing to work on, such as scope.vault."""
    check_scope: Callable[[I, Scope], None] = anything
    """Raises Denied where the scope does not hold what this input asks for; before policy or a person is asked."""
    audience: Audience = Audience.EVERYONE
    listed: bool = True
    """A tool of its own in `tools/list`. The others are called through `operation_call`: the list stays small."""
    settled: Callable[[O], bool] = always
    """Whether this answer is the last word. One that is not is no answer to a repeat with its idempotency key."""
    cancelled: Callable[[O], bool] = never
    """Whether this answer tells what was done until the call was cancelled: then the record says so, too."""
    needs_pin: Callable[[I], bool] = never
    """Whether an operator, where a PIN is set, has to give it for this input (threat T21)."""
    idempotent: bool = False
    needs_running_space: bool = False
    on_stopped_runtime: bool = False
    """Works on a runtime that is not active."""
    lasts: bool = False
    """Ends when its caller ends it, whatever the scope's `call_seconds`."""
    shows_keys: bool = False
    """The answer holds a fresh key or a secret: redaction lets it through to the caller, and keeps it out of the record."""
    unbound: bool = False
    """Not for keys that are bound to spaces."""
    operator_anywhere: bool = False
    """An operator who names no space means none, and calls under the operator's own scope."""
    without_space: Callable[[I], bool] = never
    """Whether this input has an answer for a caller who names no space and has none; `Context.place` is None then."""
    example: Mapping[str, object] = field(default_factory=dict)
    """A valid input; a test holds it to that."""

    @property
    def noun(self) -> str:
        return self.id.partition(".")[0]

    @property
    def verb(self) -> str:
        return self.id.partition(".")[2]

    @property
    def tool(self) -> str:
        return self.id.replace(".", "_")

    @property
    def hints(self) -> Hints:
        return HINTS[self.effect]

    @property
    def in_space(self) -> bool:
        return issubclass(self.input, InSpace)

    def refusal(self, scope: Scope) -> str | None:
        """The part of `scope` that stands against any call of this, or None."""
        return "scope.operations" if not scope.permits_operation(self.id) else self.refused_by(scope)

    @property
    def needs_active_runtime(self) -> bool:
        return self.needs_running_space and not self.on_stopped_runtime

    @property
    def in_runtime(self) -> bool:
        return issubclass(self.input, InRuntime)


AnyOperation = Operation[Any, Any]


def named_alike(operation_id: str, operations: Iterable[AnyOperation]) -> str:
    """The ids among them that begin as this one does, in a sentence; nothing where there are none."""
    noun = operation_id.partition(".")[0]
    ids = [operation.id for operation in operations if operation.noun == noun]
    return f"There are {', '.join(ids)}." if ids else ""


def id_of(name: str) -> str:
    """The id of an operation that may have been named as its tool is: sandbox_shell means sandbox.shell."""
    return name if "." in name else name.replace("_", ".", 1)
