"""Who can let an operation be called that the scope refuses, so that nobody widens the wrong ceiling."""

from __future__ import annotations

from mcp_spaces.core.caller import Caller
from mcp_spaces.core.operation import AnyOperation
from mcp_spaces.core.scope import Scope


def who_widens(operation: AnyOperation, caller: Caller, space: Scope | None) -> str:
    """As part of a sentence. `space`: its ceiling, where the operation is called in one."""
    own = bool(operation.refusal(caller.scope))
    if caller.key_id is not None and not caller.scope.permits_operation(operation.id):
        # Whose limit it is, the key's or its principal's, cannot be told apart here.
        return f"a person can make a key that may (mcp-spaces key create) as far as {caller.name} may"
    above = space is not None and bool(operation.refusal(space))
    if own and above:
        return f"a person can widen your own scope (mcp-spaces principal grant {caller.name}), then the space's"
    if own:
        return f"a person can widen your own scope: mcp-spaces principal grant {caller.name}"
    if above:
        return "its owner can widen the space's ceiling: space_update, or mcp-spaces space update"
    return "this runtime was launched with less: stop it, and launch its alias again, to have what the space has by now"
