"""Which namespace a call means, and whether its scope reaches there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from mcp_spaces.core.context import Context
from mcp_spaces.core.scope import OWN_NAMESPACE, StorageMode, narrow
from mcp_spaces.errors import Denied, NotFound, QuotaExceeded
from mcp_spaces.storage.names import check_namespace, check_path, is_within
from mcp_spaces.storage.store import SHARED_BYTES_MAX, no_such_file


@dataclass(frozen=True, slots=True)
class Reach:
    """One namespace as this call may use it: below `prefix` only, and up to `limit_bytes` altogether."""

    namespace: str
    tree: str
    prefix: str
    limit_bytes: int

    def below(self, prefix: str) -> str | None:
        """The part of `prefix` that can be seen; None when there is none."""
        if is_within(prefix, self.prefix):
            return prefix
        return self.prefix if is_within(self.prefix, prefix) else None


def reach(context: Context, namespace: str) -> Reach:
    """Raises NotFound when the scope holds nothing of it: the same as for a namespace that nobody ever made."""
    grant = context.scope.storage_grant(check_namespace(namespace))
    if grant.mode is StorageMode.NONE:
        raise NotFound("No such namespace here.", hint="context_get lists the storage that is mounted.")
    if namespace == OWN_NAMESPACE:
        return Reach(namespace, context.space.id, grant.prefix, context.scope.limits.storage_bytes)
    # The prefix keeps a shared namespace that is named like a space's id apart from that space's own files.
    return Reach(namespace, f"shared.{namespace}", grant.prefix, SHARED_BYTES_MAX)


def readable(context: Context, namespace: str, path: str) -> Reach:
    """Raises NotFound also for a path outside of the grant, as if it were not there."""
    found = reach(context, namespace)
    if not is_within(check_path(path), found.prefix):
        raise no_such_file()
    return found


def writable(context: Context, namespace: str, path: str) -> Reach:
    """Raises NotFound or, for what may only be read, Denied."""
    found = reach(context, namespace)
    check_path(path)
    if context.scope.storage_grant(namespace).mode is not StorageMode.READ_WRITE:
        raise Denied(
            f"The namespace {namespace} is mounted for reading only.",
            hint="Write to `own`, or let a person mount it with mode rw.",
            rule="scope.storage",
        )
    if not is_within(path, found.prefix):
        raise Denied(
            f"Only what is below {found.prefix}/ may be written in {namespace}.",
            hint=f"Use a path that starts with {found.prefix}/.",
            rule="scope.storage",
        )
    return found


@contextmanager
def whose_limit(context: Context, namespace: str) -> Iterator[None]:
    """A QuotaExceeded says so where a runtime stands in the way that was launched when its space could store less."""
    try:
        yield
    except QuotaExceeded as error:
        runtime = context.runtime_place
        if runtime is not None and namespace == OWN_NAMESPACE:
            its_own = runtime.ceiling.limits.storage_bytes
            most = narrow(context.caller.scope, context.space.ceiling).limits.storage_bytes
            if its_own < most:
                error.hint = (
                    f"{runtime.alias} was launched with {its_own:,} bytes of storage, its space has {most:,}: stop it,"
                    f" and launch its alias again with scope={{limits: {{storage_bytes: {most}}}}}."
                )
        raise
