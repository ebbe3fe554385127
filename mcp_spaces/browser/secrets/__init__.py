"""Secrets of the vault in pages: typed by `browser_login` alone, and seen by nobody."""
