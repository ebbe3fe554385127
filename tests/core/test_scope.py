"""The ceiling algebra, over random scopes."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
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
    covers,
    excess,
    narrow,
)

# Few letters, so that random scopes often meet.
segment = st.sampled_from(["a", "b", "a-x"])
prefixes = st.lists(segment, min_size=1, max_size=3).map("/".join) | st.just("*")
names = st.sampled_from(["own", "n1", "n2", "*"])
hosts = st.sampled_from(["a.com", "b.a.com", "*.a.com", "*.b.a.com", "a.com:443", "*.a.com:443", "b.a.com:80", "x.org"])
operations = st.sampled_from(["*", "space.*", "space.get", "space.list", "sandbox.*", "sandbox.shell"])

limits = st.builds(
    Limits,
    cpu_cores=st.sampled_from([0, 0.5, 2]),
    memory_bytes=st.integers(0, 3),
    runtimes=st.integers(0, 3),
)
scopes = st.builds(
    Scope,
    operations=st.lists(operations, max_size=4).map(tuple),
    storage=st.dictionaries(
        names, st.builds(StorageGrant, mode=st.sampled_from(StorageMode), prefix=st.sampled_from(["", "a", "a/b", "c"]))
    ),
    vault=st.builds(
        VaultGrant,
        allow=st.lists(prefixes, max_size=3).map(tuple),
        deny=st.lists(prefixes, max_size=3).map(tuple),
        allow_raw_reads=st.booleans(),
    ),
    ai=st.builds(
        AiGrant, allow=st.lists(names, max_size=3).map(tuple), defaults=st.dictionaries(names, names, max_size=2)
    ),
    proxy=st.lists(names, max_size=3).map(tuple),
    network=st.builds(NetworkGrant, mode=st.sampled_from(NetworkMode), allow=st.lists(hosts, max_size=4).map(tuple)),
    limits=limits,
)


@given(scopes, scopes)
def test_narrow_is_commutative(a: Scope, b: Scope) -> None:
    assert narrow(a, b) == narrow(b, a)


@settings(max_examples=300)
@given(scopes, scopes, scopes)
def test_narrow_is_associative(a: Scope, b: Scope, c: Scope) -> None:
    assert narrow(narrow(a, b), c) == narrow(a, narrow(b, c))


@given(scopes)
def test_narrow_is_idempotent(a: Scope) -> None:
    assert narrow(a, a) == a


@settings(max_examples=300)
@given(scopes, scopes)
def test_both_sides_cover_what_they_have_in_common(a: Scope, b: Scope) -> None:
    assert excess(a, narrow(a, b)) == []
    assert excess(b, narrow(a, b)) == []


@given(scopes, scopes)
def test_what_is_covered_is_unchanged_by_narrowing(a: Scope, b: Scope) -> None:
    if covers(a, b):
        met = narrow(a, b)
        assert covers(met, b) and covers(b, met)


@given(scopes, scopes, scopes)
def test_covers_is_transitive(a: Scope, b: Scope, c: Scope) -> None:
    if covers(a, b) and covers(b, c):
        assert covers(a, c)


@settings(max_examples=200)
@given(scopes, st.lists(scopes, max_size=6))
def test_no_sequence_of_narrowings_raises_a_ceiling(ceiling: Scope, steps: list[Scope]) -> None:
    current = ceiling
    for step in steps:
        current = narrow(current, step)
        assert covers(ceiling, current)


@settings(max_examples=300)
@given(scopes, scopes, st.lists(segment, min_size=1, max_size=4).map("/".join))
def test_a_vault_path_is_reached_only_where_both_sides_reach_it(a: Scope, b: Scope, path: str) -> None:
    assert narrow(a, b).vault.permits(path) == (a.vault.permits(path) and b.vault.permits(path))


@given(scopes, st.lists(segment, min_size=1, max_size=4).map("/".join))
def test_deny_beats_allow(a: Scope, path: str) -> None:
    denied = a.vault.model_copy(update={"deny": (path,)})
    assert not denied.permits(path)
    assert not denied.permits(path + "/below")


@given(scopes)
def test_the_empty_scope_permits_nothing_and_everything_covers_all(a: Scope) -> None:
    assert narrow(Scope(), a) == Scope(vault=VaultGrant(deny=a.vault.deny), ai=AiGrant(defaults=a.ai.defaults))
    assert covers(EVERYTHING, a)
    assert not Scope().permits_operation("space.get")


def test_prefixes_match_whole_segments() -> None:
    grant = VaultGrant(allow=("prod/crm",))
    assert grant.permits("prod/crm/user")
    assert not grant.permits("prod/crm-x")


@pytest.mark.parametrize(
    "rule", ["A.com", "a..com", "*.*.com", "*", "a.com:0", "a.com:99999x", "http://a.com", "a.com/", "ä.de", "-a.com"]
)
def test_a_host_rule_outside_the_grammar_is_refused(rule: str) -> None:
    with pytest.raises(ValidationError):
        NetworkGrant(mode=NetworkMode.ALLOWLIST, allow=(rule,))


def test_a_wildcard_means_sub_domains_only() -> None:
    outer = Scope(network=NetworkGrant(mode=NetworkMode.ALLOWLIST, allow=("*.a.com",)))
    assert not covers(outer, Scope(network=NetworkGrant(mode=NetworkMode.ALLOWLIST, allow=("a.com",))))
    assert not covers(outer, Scope(network=NetworkGrant(mode=NetworkMode.ALLOWLIST, allow=("xa.com",))))
    assert covers(outer, Scope(network=NetworkGrant(mode=NetworkMode.ALLOWLIST, allow=("x.a.com:443",))))


def test_excess_names_the_offending_keys() -> None:
    ceiling = Scope(operations=("space.*",), limits=Limits(memory_bytes=10))
    wanted = Scope(operations=("sandbox.shell",), limits=Limits(memory_bytes=11), proxy=("us",))
    assert excess(ceiling, wanted) == ["operations.sandbox.shell", "proxy.us", "limits.memory_bytes"]
