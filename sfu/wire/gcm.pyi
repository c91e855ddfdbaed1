from typing import Literal

def choose(library: Literal["auto", "openssl"]) -> None:
    """Whose AES-GCM new SRTP sessions of this process use; those that there are keep theirs.

    "auto" is ipsec-mb where it can be used, else OpenSSL. ValueError for other names.
    """

def library() -> str:
    """Whose AES-GCM new SRTP sessions use, with its version: "ipsec-mb 1.3.0" or "OpenSSL 3.0.17"."""

def obstacle() -> str:
    """Why ipsec-mb can't be used here; empty when it can."""
