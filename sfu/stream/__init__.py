"""The data plane: from a datagram that comes in to the datagrams that go out, without the GIL."""
