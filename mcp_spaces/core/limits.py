"""Upper bounds, with their units. At a space they bound the sum of its runtimes; at a runtime, that runtime."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

GIB = 1 << 30
UNLIMITED = 1 << 62


class Limits(BaseModel):
    """Zero means nothing: silence means no."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    cpu_cores: float = Field(default=0, ge=0, le=UNLIMITED, allow_inf_nan=False)
    memory_bytes: int = Field(default=0, ge=0, le=UNLIMITED)
    disk_bytes: int = Field(default=0, ge=0, le=UNLIMITED)
    """Workspaces of all sandboxes."""
    pids: int = Field(default=0, ge=0, le=UNLIMITED)
    """Processes in one sandbox."""
    runtimes: int = Field(default=0, ge=0, le=UNLIMITED)
    """Active runtimes at a time."""
    call_seconds: float = Field(default=0, ge=0, le=UNLIMITED, allow_inf_nan=False)
    """The longest that one call may run."""
    storage_bytes: int = Field(default=0, ge=0, le=UNLIMITED)
    """Files kept in the space's own namespace."""
    concurrent_calls: int = Field(default=0, ge=0, le=UNLIMITED)
    """Calls of one caller at a time."""
    calls_per_day: int = Field(default=0, ge=0, le=UNLIMITED)
    """Calls of one principal from midnight to midnight UTC, batches' operations included. Each leaves records."""
    spaces: int = Field(default=0, ge=0, le=UNLIMITED)
    """Spaces that a principal may own."""

    @classmethod
    def unlimited(cls) -> Limits:
        return cls(**dict.fromkeys(cls.model_fields, UNLIMITED))

    def meet(self, other: Limits) -> Limits:
        return Limits(**{name: min(getattr(self, name), getattr(other, name)) for name in Limits.model_fields})

    def exceeded_by(self, wanted: Limits) -> list[str]:
        return [name for name in Limits.model_fields if getattr(wanted, name) > getattr(self, name)]
