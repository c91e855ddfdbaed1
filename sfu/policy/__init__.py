"""Decisions about streams: when to ask for keyframes, what to send to whom."""
