"""Timings. No test depends on them."""
