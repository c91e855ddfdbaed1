"""Rooms, participants and their transports: pure state machines that command the data plane."""
