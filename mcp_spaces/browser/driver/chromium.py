"""How Chromium is started: one list of arguments for every driver, and where a host's own Chromium is found."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path

HEADLESS_SHELL = "chromium-headless-shell"
"""Debian's name. It opens a page in a fifth of Chromium's time, with half the memory (docs/benchmarks.md)."""
CANDIDATES = (HEADLESS_SHELL, "chromium", "chromium-browser", "google-chrome-stable", "google-chrome", "chrome")
NOWHERE = "http://127.0.0.1:9"
"""The proxy of what belongs to no context: nobody listens there."""

ARGUMENTS = (
    "--remote-debugging-pipe",
    "--no-first-run",
    "--no-default-browser-check",
    f"--proxy-server={NOWHERE}",
    # Without this Chromium goes past its proxy to loopback and 169.254.169.254 (threat N22).
    "--proxy-bypass-list=<-loopback>",
    "--webrtc-ip-handling-policy=disable_non_proxied_udp",
    "--force-webrtc-ip-handling-policy=disable_non_proxied_udp",
    "--dns-prefetch-disable",
    "--no-pings",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-domain-reliability",
    "--disable-client-side-phishing-detection",
    "--disable-sync",
    "--disable-default-apps",
    "--disable-extensions",
    "--disable-breakpad",
    "--disable-crash-reporter",
    "--disable-dev-shm-usage",
    "--disable-gpu",
    "--disable-search-engine-choice-screen",
    "--disable-popup-blocking",
    "--disable-prompt-on-repost",
    "--disable-hang-monitor",
    "--disable-background-timer-throttling",
    "--disable-backgrounding-occluded-windows",
    "--disable-renderer-backgrounding",
    "--disable-field-trial-config",
    "--disable-features=AcceptCHFrame,AutofillServerCommunication,BackForwardCache,CertificateTransparencyComponentUpdater,DialMediaRouteProvider,"
    "GlobalMediaControls,HttpsUpgrades,MediaRouter,NetworkPrediction,OptimizationHints,PasswordManagerOnboarding,Translate",
    # What a person would be asked to save is asked of nobody (threat B14).
    "--password-store=basic",
    "--use-mock-keychain",
    "--disable-save-password-bubble",
    "--mute-audio",
    "--hide-scrollbars",
    "--force-color-profile=srgb",
    "--metrics-recording-only",
)


def arguments(*, profile: str, trusted: Iterable[str] = (), headed: bool = False) -> list[str]:
    """`profile` is a folder of this browser alone. `trusted`: base64 sha256 of public keys whose certificates pass."""
    keys = ",".join(trusted)
    return [
        *ARGUMENTS,
        *(() if headed else ("--headless",)),
        f"--user-data-dir={profile}",
        *([f"--ignore-certificate-errors-spki-list={keys}"] if keys else []),
    ]


def install_command(*, headed: bool = False, os_release: Path = Path("/etc/os-release")) -> str:
    """What puts a Chromium on this machine. Only Debian has a package of it that is no snap."""
    playwrights = f"{sys.executable} -m playwright install chromium"
    try:
        is_debian = "ID=debian" in os_release.read_text("utf-8").splitlines()
    except OSError:
        is_debian = False
    package = "chromium" if headed else HEADLESS_SHELL
    return f"sudo apt-get install {package}    # or: {playwrights}" if is_debian else playwrights


def find(*, headed: bool = False) -> Path | None:
    """This machine's Chromium: the system's, else the one that Playwright has put into its own folder."""
    names = CANDIDATES[1:] if headed else CANDIDATES
    system = next((Path(found) for name in names if (found := shutil.which(name))), None)
    return system or _playwrights(headed=headed)


def _playwrights(*, headed: bool) -> Path | None:
    folder = Path(os.environ.get("PLAYWRIGHT_BROWSERS_PATH") or Path.home() / ".cache/ms-playwright")
    patterns: tuple[str, ...] = ("chromium-*/chrome-linux*/chrome",)
    if not headed:
        patterns = (
            "chromium_headless_shell-*/chrome-*/chrome-headless-shell",
            "chromium_headless_shell-*/chrome-linux/headless_shell",
            *patterns,
        )
    # The newest: their names end in a number that grows.
    return next((found for pattern in patterns for found in sorted(folder.glob(pattern), reverse=True)), None)
