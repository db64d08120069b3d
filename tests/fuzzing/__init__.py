"""Hostile arguments for all that is public, room by room: tests/test_fuzz.py runs them."""
