"""Sending-side bandwidth estimation, one estimator for each viewer's transport."""
