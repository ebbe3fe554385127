"""The pipeline's first step: what a call intends, on its way to the disk before anything is done.

Refusals and crashes leave evidence. The commit is under way while the next steps only think.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping

from mcp_spaces.core.call import Call
from mcp_spaces.core.caller import Caller
from mcp_spaces.core.context import Progress
from mcp_spaces.core.idempotency import MAXIMUM_KEY_LENGTH
from mcp_spaces.core.invalid_input import DEPTH_MAX, is_deeper_than
from mcp_spaces.core.journal import Journal, Run
from mcp_spaces.core.operation import AnyOperation, id_of
from mcp_spaces.core.place import DEFAULT_SPACE, Places, SpacePlace
from mcp_spaces.core.recordable import KnownIn, recordable
from mcp_spaces.core.redaction import Redactor, without
from mcp_spaces.errors import InvalidInput, SpacesError


class Intents:
    def __init__(
        self, operations: Mapping[str, AnyOperation], *, places: Places, journal: Journal, known_in: KnownIn
    ) -> None:
        self._operations = operations
        self._places = places
        self._journal = journal
        self._known_in = known_in

    def record(
        self,
        caller: Caller,
        operation: AnyOperation,
        arguments: Mapping[str, object],
        *,
        parent_id: str | None,
        idempotency_key: str | None,
        progress: Progress,
        redactor: Redactor,
    ) -> Call:
        """Raises InvalidInput for a key that is none, and what a database says that accepts no changes."""
        if idempotency_key is not None and not (
            0 < len(idempotency_key) <= MAXIMUM_KEY_LENGTH and idempotency_key.isprintable()
        ):
            raise InvalidInput(
                "The idempotency key has to be printable text.", hint=f"Use at most {MAXIMUM_KEY_LENGTH} characters."
            )
        counted = redactor.counts.copy()
        space = self._space_named(caller, operation, arguments)
        if is_deeper_than(arguments, DEPTH_MAX):
            arguments = {"refused": f"nested deeper than {DEPTH_MAX} levels"}
        known = self._known(space, *self._spaces_carried(caller, arguments))
        run = self._journal.open(
            operation.id,
            principal_id=caller.principal_id,
            parent_id=parent_id,
            space_id=None if space is None else space.id,
            arguments=without([redactor, *known], recordable(self._operations, operation, arguments)),
        )
        return Call(
            caller=caller,
            operation=operation,
            run=run,
            redactor=redactor,
            known=known,
            counted=counted,
            progress=progress,
            key=idempotency_key,
            scope=caller.scope,
            policy=caller.policy,
            space=space,
        )

    def _known(self, *spaces: SpacePlace | None) -> list[Redactor]:
        """The record of a refusal to type a secret would hold it else (threat B19)."""
        ids: Iterable[str] = sorted({space.id for space in spaces if space is not None})
        return [redactor for space_id in ids for redactor in self._known_in(space_id)]

    def _space_named(
        self, caller: Caller, operation: AnyOperation, arguments: Mapping[str, object]
    ) -> SpacePlace | None:
        """So that a space's list shows a call while it runs. What is wrong with the name is step 3's to say."""
        reference = arguments.get("space", DEFAULT_SPACE)
        if not operation.in_space or not isinstance(reference, str) or is_anywhere(operation, caller, reference):
            return None
        try:
            return self._places.space(caller, reference)
        except SpacesError:
            return None

    def _spaces_carried(self, caller: Caller, arguments: Mapping[str, object]) -> Iterator[SpacePlace | None]:
        """What another operation's input names, where this input carries one."""
        inner, carried = self._operations.get(id_of(str(arguments.get("operation", "")))), arguments.get("input")
        if inner is not None and isinstance(carried, Mapping):
            yield self._space_named(caller, inner, carried)
            yield from self._spaces_carried(caller, carried)


async def recorded(run: Run) -> None:
    """Until the intent is on the disk. Raises DiskFull or Busy: what cannot be recorded does not happen."""
    if run.recorded is not None:
        await asyncio.shield(run.recorded)


def is_anywhere(operation: AnyOperation, caller: Caller, space: str) -> bool:
    """Whether an operator names no space where none is needed."""
    return operation.operator_anywhere and caller.operator and space == DEFAULT_SPACE
