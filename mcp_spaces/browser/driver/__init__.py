"""The ways to run Chromium: in a container, or this machine's own; and how Playwright reaches it."""
