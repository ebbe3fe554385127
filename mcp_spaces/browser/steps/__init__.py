"""Structured steps: what a program would do with Playwright, one declared method at a time."""
