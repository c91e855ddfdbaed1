"""Facts from bytes: what RTP payloads say about the pictures and sound they carry. No clock, no I/O."""
