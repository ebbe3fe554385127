"""What a record keeps of an input that carries another operation's."""

from __future__ import annotations

import pytest

from mcp_spaces.catalogue import CATALOGUE
from mcp_spaces.core.recordable import WITHHELD, recordable

OPERATIONS = {one.id: one for one in CATALOGUE}


@pytest.mark.parametrize("named", ["vault.set", "vault_set"])
def test_an_operation_that_is_named_as_its_tool_is_keeps_what_is_no_secret(named: str) -> None:
    carried = {"path": "prod/login", "password": "hunter22hunter22"}
    kept = recordable(OPERATIONS, OPERATIONS["operation.call"], {"operation": named, "input": carried})
    assert kept == {"operation": named, "input": {"path": "prod/login", "password": WITHHELD}}


def test_of_an_operation_that_nobody_knows_nothing_is_kept() -> None:
    given = {"operation": "vault.sett", "input": {"password": "hunter22hunter22"}}
    kept = recordable(OPERATIONS, OPERATIONS["operation.call"], given)
    assert kept == {"operation": "vault.sett", "input": WITHHELD}
