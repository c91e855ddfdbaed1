"""Peers and networks in virtual time, for the engine's tests."""
