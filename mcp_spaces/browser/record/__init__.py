"""Recordings: trace, film and pictures of what a browser did."""
