"""Browser runtimes: Chromium driven by Playwright, behind the same walls and the same gateway as sandboxes."""
