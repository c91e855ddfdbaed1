"""The selective forwarding unit: wire formats, policy, streams and sessions, all without I/O."""
