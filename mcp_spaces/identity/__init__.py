"""Principals and their keys: who may call at all, and with what scope of their own."""
