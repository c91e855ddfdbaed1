"""The selective forwarding unit: wire formats, streams, policy and sessions, all without I/O."""
