"""Secrets by path: kept sealed, used without being seen, shown only where scope and policy both say so."""
