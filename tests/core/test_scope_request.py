"""What is asked for below a ceiling: a part that is left out is inherited, more than there is names its key."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from mcp_spaces.core.limits import Limits
from mcp_spaces.core.scope import (
    EVERYTHING,
    AiGrant,
    NetworkGrant,
    NetworkMode,
    Scope,
    StorageGrant,
    StorageMode,
    VaultGrant,
)
from mcp_spaces.core.scope_request import ScopeRequest, within
from mcp_spaces.errors import ExceedsCeiling, InvalidInput

HELD = Scope(
    operations=("sandbox.*",),
    storage={"own": StorageGrant(mode=StorageMode.READ_WRITE)},
    vault=VaultGrant(allow=("prod",)),
    ai=AiGrant(allow=("claude",), defaults={"anthropic": "claude"}),
    proxy=("us",),
    network=NetworkGrant(mode=NetworkMode.ALLOWLIST, allow=("a.com",)),
    limits=Limits(memory_bytes=1 << 30, pids=100),
)
ASKED: dict[str, tuple[dict[str, Any], object]] = {
    "operations": ({"operations": ["run.get"]}, ("run.get",)),
    "storage": (
        {"storage": {"namespace": "shared", "mode": "rw", "prefix": "a"}},
        {"shared": StorageGrant(mode=StorageMode.READ_WRITE, prefix="a")},
    ),
    "vault": (
        {"vault": {"allow": ["dev"], "deny": ["dev/x"], "allow_raw_reads": True}},
        VaultGrant(allow=("dev",), deny=("dev/x",), allow_raw_reads=True),
    ),
    "ai": ({"ai": {"allow": ["other"]}}, AiGrant(allow=("other",))),
    "proxy": ({"proxy": []}, ()),
    "network": ({"network": {"mode": "open"}}, NetworkGrant(mode=NetworkMode.OPEN)),
    "limits": ({"limits": {"pids": 8}}, Limits(memory_bytes=1 << 30, pids=8)),
}


@pytest.mark.parametrize("part", ASKED)
def test_a_part_that_is_named_is_as_asked_and_the_others_are_inherited(part: str) -> None:
    asked, wanted = ASKED[part]
    assert ScopeRequest(**asked).over(HELD) == HELD.model_copy(update={part: wanted})


def test_who_asks_for_nothing_gets_what_there_is() -> None:
    assert ScopeRequest().over(HELD) == HELD


def test_several_namespaces_are_asked_for_at_once() -> None:
    asked = ScopeRequest(storage=[{"namespace": "a"}, {"namespace": "b", "mode": "rw"}])  # type: ignore[arg-type]
    grants = {"a": StorageGrant(), "b": StorageGrant(mode=StorageMode.READ_WRITE)}
    assert asked.over(HELD).storage == grants


def test_hosts_without_a_mode_are_refused_instead_of_reaching_nothing_unsaid() -> None:
    with pytest.raises(InvalidInput, match=r"network\.mode is left out"):
        ScopeRequest(network={"allow": ["a.com"]}).over(HELD)  # type: ignore[arg-type]
    resting = ScopeRequest(network={"mode": "none", "allow": ["a.com"]})  # type: ignore[arg-type]
    assert resting.over(HELD).network == NetworkGrant()


def test_an_authority_of_its_own_is_a_space_s_alone() -> None:
    with pytest.raises(ValidationError, match="own_authority"):
        ScopeRequest(network={"mode": "open", "own_authority": True})  # type: ignore[arg-type]


def test_more_than_there_is_names_the_first_key_and_counts_the_others() -> None:
    assert within(HELD, HELD, whose="the space", who="its owner") is HELD
    raw = HELD.model_copy(update={"vault": VaultGrant(allow=("prod",), allow_raw_reads=True)})
    with pytest.raises(ExceedsCeiling, match=r"^vault\.allow_raw_reads is more than the space holds\.$") as one:
        within(HELD, raw, whose="the space", who="its owner")
    assert one.value.key == "vault.allow_raw_reads"
    much = HELD.model_copy(update={"operations": ("*",), "proxy": ("eu",), "limits": Limits(pids=101)})
    with pytest.raises(ExceedsCeiling, match=r"\(and 2 more\)") as several:
        within(HELD, much, whose="the space", who="its owner")
    assert several.value.key == "operations.*"


def test_what_is_there_already_may_stay_and_nothing_else_is_added_to_it() -> None:
    already = HELD.model_copy(update={"proxy": ("us", "eu")})
    assert within(HELD, already, whose="the space", who="its owner", already=already) == already
    with pytest.raises(ExceedsCeiling) as refused:
        within(
            HELD,
            HELD.model_copy(update={"proxy": ("us", "eu", "de")}),
            whose="the space",
            who="its owner",
            already=already,
        )
    assert refused.value.key == "proxy.de"
    assert within(EVERYTHING, already, whose="the space", who="its owner", already=HELD) == already
