"""Bytes on the wire: RTP, RTCP, SRTP, STUN, SDP. Parsers and writers that keep no session state."""
