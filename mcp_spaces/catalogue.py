"""Everything that the product can do, as one literal tuple.

The MCP tools and their hints, the Agent Context, the command line, docs/reference and the test matrix are derived
from it. A new operation is one more name in the OPERATIONS of its room, a new noun one more line here.
"""

from __future__ import annotations

from mcp_spaces.browser import operations as browser
from mcp_spaces.core import call_operation
from mcp_spaces.core.operation import AnyOperation
from mcp_spaces.identity import approvals as approval
from mcp_spaces.identity import key_operations as key
from mcp_spaces.identity import pin_operations as pin
from mcp_spaces.identity import principal_operations as principal
from mcp_spaces.network import operations as network
from mcp_spaces.runs import operations as runs
from mcp_spaces.sandbox import operations as sandbox
from mcp_spaces.spaces import context, explain
from mcp_spaces.spaces import operations as spaces
from mcp_spaces.storage import operations as storage
from mcp_spaces.vault import operations as vault

CATALOGUE: tuple[AnyOperation, ...] = (
    context.GET,
    *spaces.OPERATIONS,
    *sandbox.OPERATIONS,
    *browser.OPERATIONS,
    *storage.OPERATIONS,
    *vault.OPERATIONS,
    *network.OPERATIONS,
    *runs.OPERATIONS,
    explain.EXPLAIN,
    call_operation.CALL,
    *approval.OPERATIONS,
    *key.OPERATIONS,
    *principal.OPERATIONS,
    *pin.OPERATIONS,
)
