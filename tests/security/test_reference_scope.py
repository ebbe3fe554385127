"""V09: a reference is refused by the scope before policy or a person is asked, each missing part by its name."""

from __future__ import annotations

from typing import Any

import pytest

from mcp_spaces.core.scope import EVERYTHING
from mcp_spaces.errors import Denied
from mcp_spaces.sandbox.references import check_scope
from mcp_spaces.sandbox.shell import ShellInput

REFERENCE = "{{vault:prod/api#token}}"
NO_RAW_READS = EVERYTHING.vault.model_copy(update={"allow_raw_reads": False})
NO_VAULT = EVERYTHING.vault.model_copy(update={"allow": ()})
GIVEN = {"in a variable": {"env": {"T": f"x{REFERENCE}"}}, "in stdin": {"stdin": REFERENCE}}


@pytest.mark.parametrize("where", GIVEN)
@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"operations": ("sandbox.*", "vault.list")}, "scope.operations"),
        ({"vault": NO_RAW_READS}, "scope.vault.allow_raw_reads"),
        ({"vault": NO_VAULT}, "scope.vault"),
    ],
)
def test_v09_a_scope_that_could_not_read_the_secret_gets_no_reference_resolved(
    where: str, change: dict[str, Any], rule: str
) -> None:
    scope = EVERYTHING.model_copy(update=change)
    with pytest.raises(Denied) as caught:
        check_scope(ShellInput(command="true", **GIVEN[where]), scope)  # type: ignore[arg-type]
    assert caught.value.rule == rule and "gateway" in caught.value.hint
    check_scope(ShellInput(command=f"echo {REFERENCE}", env={"T": "plain"}, stdin="plain"), scope)


@pytest.mark.parametrize("where", GIVEN)
def test_a_scope_that_holds_all_of_it_says_nothing(where: str) -> None:
    check_scope(ShellInput(command="true", **GIVEN[where]), EVERYTHING)  # type: ignore[arg-type]
