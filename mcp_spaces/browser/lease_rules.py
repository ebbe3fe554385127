"""What a client with a lease may say to Chromium, and what it is told. What is not listed is refused.

The client controls one runtime's context. Nothing here is a wall against the page: the walls are the container around
the browser and the gateway. These rules keep the client inside of its context and away from files, from the browser's
own settings and from whatever outlives the lease.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

DOMAINS = frozenset(
    "Accessibility Animation Audits CSS CacheStorage Console DOM DOMDebugger DOMSnapshot DOMStorage Debugger Emulation"
    " EventBreakpoints Fetch HeapProfiler IO IndexedDB Input Inspector LayerTree Log Media Network Overlay Page"
    " Performance PerformanceTimeline Profiler Runtime Schema ServiceWorker Storage WebAudio WebAuthn".split()
)
"""All of their methods but those below."""
METHODS = frozenset(
    {
        "Browser.getVersion",
        "Browser.getWindowForTarget",
        "Browser.getWindowBounds",
        "Security.enable",
        "Security.disable",
        "Target.activateTarget",
        "Target.attachToTarget",
        "Target.autoAttachRelated",
        "Target.closeTarget",
        "Target.createTarget",
        "Target.detachFromTarget",
        "Target.getBrowserContexts",
        "Target.getTargetInfo",
        "Target.getTargets",
        "Target.setAutoAttach",
        "Target.setDiscoverTargets",
    }
)
REFUSED = frozenset(
    {
        "DOM.getFileInfo",
        "DOM.setFileInputFiles",
        "Network.loadNetworkResource",
        "Page.addCompilationCache",
        "Page.crash",
        "Page.handleFileChooser",
    }
)
"""Files by their path, and what leaves a page broken after the lease."""
SETTLED = frozenset({"Browser.setDownloadBehavior", "Page.setDownloadBehavior", "Page.setInterceptFileChooserDialog"})
"""Clients send these when they connect. They are told that it was done; downloads stay the runtime's."""
SCHEMES = ("http://", "https://", "about:blank", "data:", "blob:")


@dataclass(frozen=True, slots=True)
class Passed:
    """To be sent on, as it is now."""

    order: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Answered:
    """Not sent on; the client gets this."""

    answer: dict[str, Any]


def screened(message: str | bytes, *, context_id: str) -> Passed | Answered:
    """Raises ValueError for what is no message of the protocol: there is nothing to answer."""
    try:
        order = json.loads(message)
    except RecursionError:
        raise ValueError("nested too deep") from None
    if not isinstance(order, dict) or type(order.get("id")) is not int or not isinstance(order.get("method"), str):
        raise ValueError("not a message of the DevTools protocol")
    method, params = order["method"], order.get("params", {})
    if not isinstance(params, dict):
        return _refusal(order, "params is no object")
    if method in SETTLED:
        return Answered({**_address(order), "result": {}})
    if method in REFUSED or not (method in METHODS or method.partition(".")[0] in DOMAINS):
        return _refusal(order, f"{method[:100]} is not for a leased browser")
    if method == "Target.createTarget":
        params = {**params, "browserContextId": context_id}
    if method == "Input.dispatchDragEvent" and _has_files(params):
        return _refusal(order, "files cannot be dragged in")
    url = params.get("url")
    if method in ("Target.createTarget", "Page.navigate") and url and not _is_web(url):
        return _refusal(order, "only http and https can be opened")
    return Passed({**order, "params": params})


def is_foreign(told: dict[str, Any], *, context_id: str) -> bool:
    """Whether this event is about a target outside of the runtime's context."""
    if not str(told.get("method", "")).startswith("Target."):
        return False
    target = told.get("params", {}).get("targetInfo")
    return isinstance(target, dict) and target.get("browserContextId", context_id) != context_id


def own_targets(told: dict[str, Any], *, context_id: str) -> dict[str, Any]:
    """An answer to Target.getTargets with the context's own ones only."""
    found = told.get("result", {}).get("targetInfos")
    if not isinstance(found, list):
        return told
    own = [one for one in found if one.get("browserContextId", context_id) == context_id]
    return {**told, "result": {**told["result"], "targetInfos": own}}


def _is_web(url: object) -> bool:
    return isinstance(url, str) and url.strip().lower().startswith(SCHEMES)


def _has_files(params: dict[str, Any]) -> bool:
    dragged = params.get("data")
    return isinstance(dragged, dict) and bool(dragged.get("files"))


def _address(order: dict[str, Any]) -> dict[str, Any]:
    return {name: order[name] for name in ("id", "sessionId") if name in order}


def _refusal(order: dict[str, Any], why: str) -> Answered:
    return Answered({**_address(order), "error": {"code": -32000, "message": f"mcp-spaces: {why}"}})
