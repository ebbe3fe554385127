"""Listening to Playwright: an exception in a listener breaks its whole connection, so none gets out."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

log = logging.getLogger(__name__)


def safely(listener: Callable[..., object]) -> Callable[[Any], None]:
    """The same, whatever it raises. The event is not logged: it may hold what was typed."""

    def listen(event: Any) -> None:
        try:
            listener(event)
        except Exception as error:  # noqa: BLE001 - see above
            log.error("a browser's event could not be handled: %s", type(error).__name__)

    return listen
