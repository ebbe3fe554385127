"""One of pydantic's findings, in words for those who never heard of it."""

from __future__ import annotations

NO_OBJECT = frozenset({"model_type", "model_attributes_type", "dict_type", "mapping_type"})


def sentence(location: tuple[int | str, ...], kind: str, message: str) -> str:
    """What is wrong at `location`, without a full stop; `kind` and `message` are pydantic's."""
    where = ".".join(str(part)[:64] for part in location) or "arguments"
    if kind == "extra_forbidden":
        return f"{where} is unknown"
    if kind == "missing":
        return f"{where} is missing"
    if kind in NO_OBJECT:
        return f"{where}: an object is needed"
    return f"{where}: {message[:200].removeprefix('Value error, ')}"
