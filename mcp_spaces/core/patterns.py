"""How names in a scope cover and meet each other: the four small pattern languages of the ceiling algebra.

Operations `*`, `noun.*`, `noun.verb` · vault prefixes by whole segments · hosts `host`, `host:port`, `*.host` ·
plain names. For each: does one cover another, what do two have in common, and the canonical form of a set.
"""

from __future__ import annotations

from collections.abc import Iterable

ANY = "*"


def is_below(path: str, prefix: str) -> bool:
    """Whether `path` is `prefix` or lies below it, by whole segments: `prod/crm` never reaches `prod/crm-x`."""
    return prefix in (ANY, path) or path.startswith(prefix + "/")


def outermost_prefixes(prefixes: Iterable[str]) -> tuple[str, ...]:
    unique = sorted(set(prefixes))
    return tuple(one for one in unique if not any(one != other and is_below(one, other) for other in unique))


def meet_prefix(a: str, b: str) -> str | None:
    if is_below(a, b):
        return a
    return b if is_below(b, a) else None


def operation_covers(outer: str, inner: str) -> bool:
    return outer in (ANY, inner) or (outer.endswith(".*") and inner.startswith(outer[:-1]))


def meet_operation(a: str, b: str) -> str | None:
    if operation_covers(a, b):
        return b
    return a if operation_covers(b, a) else None


def widest_operations(patterns: Iterable[str]) -> tuple[str, ...]:
    unique = sorted(set(patterns))
    return tuple(one for one in unique if not any(one != other and operation_covers(other, one) for other in unique))


def sorted_names(names: Iterable[str]) -> tuple[str, ...]:
    unique = set(names)
    return (ANY,) if ANY in unique else tuple(sorted(unique))


def names_cover(outer: tuple[str, ...], name: str) -> bool:
    return ANY in outer or name in outer


def meet_names(a: tuple[str, ...], b: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name for name in {*a, *b} if names_cover(a, name) and names_cover(b, name))


def starts_with_segments(path: str, prefix: str) -> bool:
    return prefix in ("", path) or path.startswith(prefix + "/")


def split_host_rule(rule: str) -> tuple[str, str]:
    host, _, port = rule.partition(":")
    return host, port


def host_covers(outer: str, inner: str) -> bool:
    outer_host, outer_port = split_host_rule(outer)
    inner_host, inner_port = split_host_rule(inner)
    if outer_port and outer_port != inner_port:
        return False
    return outer_host == inner_host or (outer_host.startswith("*.") and inner_host.endswith(outer_host[1:]))


def meet_host(a: str, b: str) -> str | None:
    a_host, a_port = split_host_rule(a)
    b_host, b_port = split_host_rule(b)
    if a_port and b_port and a_port != b_port:
        return None
    host = b_host if host_covers(a_host, b_host) else a_host if host_covers(b_host, a_host) else None
    port = a_port or b_port
    return None if host is None else f"{host}:{port}" if port else host


def widest_hosts(rules: Iterable[str]) -> tuple[str, ...]:
    unique = sorted(set(rules))
    return tuple(one for one in unique if not any(one != other and host_covers(other, one) for other in unique))
