"""What this process takes of the memory that it may have."""

from __future__ import annotations

import os
from pathlib import Path

PAGE = os.sysconf("SC_PAGE_SIZE")
CGROUP_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
"""Of a container, by cgroups of version 2 and of version 1."""


def memory_limit() -> int:
    """Bytes that this process may take: what its container gives, at most the machine's."""
    machine = os.sysconf("SC_PHYS_PAGES") * PAGE
    for path in CGROUP_LIMITS:
        try:
            text = path.read_text().strip()
        except OSError:
            continue
        if text.isdigit():  # else "max"
            return min(int(text), machine)
    return machine


def resident_bytes() -> int:
    """Bytes that this process holds in memory; 0 where the system does not tell."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE
    except (OSError, IndexError, ValueError):
        return 0
