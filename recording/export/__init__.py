"""Recordings in other shapes."""
