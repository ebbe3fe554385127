"""What of an input may stand in a record. Secrets come in as fields of type SecretStr and are never written down."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache

from pydantic import BaseModel

from mcp_spaces.core.operation import AnyOperation, id_of
from mcp_spaces.core.redaction import Redactor

WITHHELD = "[secret]"

KnownIn = Callable[[str], Iterable[Redactor]]
"""Of a space, by its id: what knows the secrets that its runtimes were given."""


def nothing_known(_: str) -> Iterable[Redactor]:
    return ()


def recordable(
    operations: Mapping[str, AnyOperation], operation: AnyOperation, arguments: Mapping[str, object]
) -> Mapping[str, object]:
    """The arguments as they came, without secrets.

    Where an operation takes secrets, only its other fields are kept: a name that it does not know may be a secret's
    with a spelling mistake. An input that carries another operation's (`operation`, `input`) is treated like that one,
    and not kept where nobody knows which one was meant.
    """
    model: type[BaseModel] = operation.input
    secret = secret_fields(model)
    known = set(model.model_fields) - secret
    carries = {"operation", "input"} <= known
    if not secret and not carries:
        return arguments
    kept = {name: value if name in known else WITHHELD for name, value in arguments.items()}
    if carries and "input" in kept:
        kept["input"] = _carried(operations, kept.get("operation"), kept["input"])
    return kept


def _carried(operations: Mapping[str, AnyOperation], operation_id: object, carried: object) -> object:
    inner = operations.get(id_of(str(operation_id)))
    if inner is None:
        return WITHHELD
    if isinstance(carried, Mapping):
        return recordable(operations, inner, carried)
    model: type[BaseModel] = inner.input
    return WITHHELD if secret_fields(model) else carried


@lru_cache(maxsize=512)
def secret_fields(model: type[BaseModel]) -> frozenset[str]:
    """The top-level fields that hold a secret."""
    properties = model.model_json_schema().get("properties", {})
    return frozenset(name for name, schema in properties.items() if _is_secret(schema))


def _is_secret(schema: Mapping[str, object]) -> bool:
    choices = schema.get("anyOf")
    return schema.get("writeOnly") is True or (
        isinstance(choices, list) and any(one.get("writeOnly") is True for one in choices)
    )
