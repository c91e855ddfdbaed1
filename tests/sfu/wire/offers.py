"""Real offers: Chromium 156, Firefox ESR 153 and FFmpeg 8.1 as they gave them."""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parent / "fixtures"
NAMES = sorted(path.stem for path in FOLDER.glob("*.sdp"))


def real_offer(name: str) -> str:
    """The text with its CR LF."""
    return (FOLDER / f"{name}.sdp").read_bytes().decode()
