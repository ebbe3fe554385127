"""A site of three origins for the browser's tests: `app.test` with logins and hostile pages, `evil.test` that listens,
`third.test` that is neither.

    async with Site() as site:
        daemon = start(network_private_hosts=site.private_hosts, …)     # or Chromium with site.chromium_arguments
        …
        with anyio.fail_after(10):
            await site.hit("evil.test", "/collect")
        assert site.reached("evil.test") == [] and site.holding(site.person.password) == []

Every page is a file in `pages/`; its first comment says what it is for.
"""

from tests.browser.site.accounts import FAILURES_MAX, CodeRule, Person, Verdict
from tests.browser.site.near_misses import BOUND, NEAR_MISSES, NearMiss
from tests.browser.site.records import Connect, Hello, Hit, Log, Message, Packet, Record
from tests.browser.site.server import NAMES, Site

__all__ = [
    "BOUND",
    "FAILURES_MAX",
    "NAMES",
    "NEAR_MISSES",
    "CodeRule",
    "Connect",
    "Hello",
    "Hit",
    "Log",
    "Message",
    "NearMiss",
    "Packet",
    "Person",
    "Record",
    "Site",
    "Verdict",
]
