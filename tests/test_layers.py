"""The architecture as a test: imports run one way, and what is sans-I/O stays so.

Every import and cimport of the product is read from its source, at any depth and under TYPE_CHECKING too: Python by its
syntax tree, Cython by its logical lines.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parent.parent
PRODUCT = "mediaserver"

# Which layers the modules of a layer may import, their own included. Folders in layers are named with a dot.
MAY_IMPORT = {
    "codecs": {"codecs"},
    "sfu": set(),
    "sfu.wire": {"codecs", "sfu.wire"},
    # Policy is decisions over plain numbers; the stream carries them out on the packet's way.
    "sfu.policy": {"codecs", "sfu.wire", "sfu.policy"},
    "sfu.stream": {"codecs", "sfu.wire", "sfu.policy", "sfu.stream"},
    "sfu.session": {"codecs", "sfu.wire", "sfu.stream", "sfu.policy", "sfu.session"},
    "recording": {"codecs", "sfu.wire", "sfu.stream", "sfu.policy", "sfu.session", "recording"},
    # An outsider: it meets the server on the wire alone.
    "loadtest": {"codecs", "sfu.wire", "loadtest"},
    "mediaserver": {
        "codecs",
        "sfu.wire",
        "sfu.stream",
        "sfu.policy",
        "sfu.session",
        "recording",
        "loadtest",
        "mediaserver",
    },
}
# Of the top layer, what others may take: data that is said once.
COMMON = {
    "recording": {"mediaserver.__version__"},
    # A load test judges by the budgets that the server states.
    "loadtest": {"mediaserver.__version__", "mediaserver.budgets"},
}

# What code without I/O and without a clock has no use for, by the top of the name.
OUTSIDE_MODULES = re.compile(
    r"_thread|aiofiles|aiohttp|aiosqlite|anyio|asyncio|concurrent|fcntl|http|io|logging|multiprocessing|os|pathlib"
    r"|prometheus_client|queue|random|requests|sched|secrets|select|selectors|shutil|signal|socket|socketserver"
    r"|sqlalchemy|sqlite3|ssl|structlog|subprocess|sys|tempfile|threading|time|trio|urllib|uvloop"
)
# The same for Cython's own declarations and for C headers.
OUTSIDE_CIMPORTS = ("cpython.datetime", "cpython.pythread", "cpython.time", "libc.signal", "libc.stdio", "libc.time")
OUTSIDE_CIMPORT_TOPS = frozenset(("posix", "openmp"))
OUTSIDE_HEADERS = re.compile(
    r"(arpa|net|netinet|linux|asm)/.*|sys/(?!types\.h|cdefs\.h).*"
    r"|(aio|dirent|fcntl|ifaddrs|netdb|poll|pthread|sched|semaphore|signal|stdio|syslog|termios|threads|time|unistd)\.h"
)
# Times as values may be passed in; these read the clock.
CLOCK_READS = frozenset(("now", "utcnow", "today"))

SANS_IO = ("codecs/", "sfu/")
# The thin shell that owns the sockets, the thread and the clock.
SHELL = frozenset(
    f"sfu/stream/{name}"
    for name in ("worker.pyx", "worker.pyi", "sockets.pxd", "udp.pyx", "udp.pxd", "tcp.pyx", "tcp.pxd")
)


class Use(NamedTuple):
    """An import: `modules` are what it may load, the most exact name first. `header` tells a C header."""

    line: int
    modules: tuple[str, ...]
    header: bool = False


# ---- reading


def package_of(path: str) -> list[str]:
    """The dotted package in which a file's relative imports start."""
    folders = path.split("/")[:-1]
    return folders if folders[0] == PRODUCT else [PRODUCT, *folders]


def resolve(path: str, level: int, module: str) -> str:
    if level == 0:
        return module
    package = package_of(path)
    return ".".join([*package[: len(package) - level + 1], *([module] if module else [])])


def python_uses(path: str, source: str) -> Iterator[Use]:
    for node in ast.walk(ast.parse(source, path)):
        if isinstance(node, ast.Import):
            for name in node.names:
                yield Use(node.lineno, (name.name,))
        elif isinstance(node, ast.ImportFrom):
            module = resolve(path, node.level, node.module or "")
            for name in node.names:
                yield Use(node.lineno, (f"{module}.{name.name}", module))
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("__import__", "importlib.import_module"):
            for argument in node.args[:1]:
                if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                    yield Use(node.lineno, (argument.value,))


def blank_strings(source: str) -> tuple[str, dict[int, str]]:
    """The source without comments and with empty strings, and the strings by their offset in it."""
    pattern = re.compile(
        r"(?P<long>'''(?:\\.|[^\\])*?'''|\"\"\"(?:\\.|[^\\])*?\"\"\")"
        r"|(?P<short>'(?:\\.|[^'\\\n])*'|\"(?:\\.|[^\"\\\n])*\")"
        r"|(?P<comment>\#[^\n]*)",
        re.DOTALL,
    )
    strings: dict[int, str] = {}
    parts: list[str] = []
    done = size = 0
    for match in pattern.finditer(source):
        parts.append(source[done : match.start()])
        size += match.start() - done
        done = match.end()
        if match["comment"] is None:
            text = match[0]
            strings[size] = text[3:-3] if match["long"] else text[1:-1]
            # Line ends inside stay, so that lines keep their numbers.
            parts.append('""' + "\n" * text.count("\n"))
            size += 2 + text.count("\n")
    parts.append(source[done:])
    return "".join(parts), strings


def logical_lines(blanked: str) -> Iterator[tuple[int, int, str]]:
    """Line number, offset and text of each statement; brackets and backslashes continue a line, semicolons end one."""
    depth = start = 0
    line = first = 1
    for at, char in enumerate(blanked):
        if char in "([{":
            depth += 1
        elif char in ")]}":
            depth = max(0, depth - 1)
        if char == "\n":
            line += 1
        if (char == "\n" and depth == 0 and blanked[at - 1 : at] != "\\") or (char == ";" and depth == 0):
            yield first, start, blanked[start:at]
            start, first = at + 1, line
    yield first, start, blanked[start:]


FROM_IMPORT = re.compile(r"from\s+(?P<dots>\.*)\s*(?P<module>[\w.]*)\s*\bc?import\b(?P<names>.*)", re.DOTALL)
PLAIN_IMPORT = re.compile(r"c?import\s+(?P<names>.*)", re.DOTALL)
EXTERN = re.compile(r"(cdef\s+)?extern\s+from\b")
INCLUDE = re.compile(r"include\s+\"\"")
C_INCLUDE = re.compile(r"^\s*#\s*include\s*[<\"]([^>\"]+)[>\"]", re.MULTILINE)


def imported_names(text: str) -> list[str]:
    cleaned = re.sub(r"[()\\\n]", " ", text)
    return [part.split()[0] for part in cleaned.split(",") if part.split()]


def cython_uses(path: str, source: str) -> Iterator[Use]:
    blanked, strings = blank_strings(source)
    for line, offset, text in logical_lines(blanked):
        statement = text.strip()
        # A colon may stand before: `try: import x`, `if TYPE_CHECKING: from x import y`.
        tail = re.split(r":\s*(?=(?:from|c?import)\b)", statement)[-1]
        line += text[: len(text) - len(text.lstrip())].count("\n")
        if match := FROM_IMPORT.match(tail):
            module = resolve(path, len(match["dots"]), match["module"])
            for name in imported_names(match["names"]):
                yield Use(line, (f"{module}.{name}", module))
        elif match := PLAIN_IMPORT.match(tail):
            for name in imported_names(match["names"]):
                yield Use(line, (name,))
        elif EXTERN.match(statement):
            for at, string in strings.items():
                if offset <= at < offset + len(text):
                    yield Use(line, (string.strip("<>"),), header=True)
        elif INCLUDE.match(statement):
            raise AssertionError(f"{path}:{line}: textual include hides what it brings in")
    for at, string in strings.items():
        for match in C_INCLUDE.finditer(string):
            lines_before = blanked.count("\n", 0, at) + string.count("\n", 0, match.start(1))
            yield Use(lines_before + 1, (match[1],), header=True)


def uses_of(path: str, source: str) -> Iterator[Use]:
    return python_uses(path, source) if path.endswith((".py", ".pyi")) else cython_uses(path, source)


# ---- judging


def layer_of(dotted: list[str]) -> str | None:
    """The layer of a module by its dotted name; None for what is not the product's."""
    if dotted[0] != PRODUCT:
        return None
    if len(dotted) == 1 or dotted[1] not in ("codecs", "sfu", "recording", "loadtest"):
        return PRODUCT
    if dotted[1] == "sfu" and len(dotted) > 2 and f"sfu.{dotted[2]}" in MAY_IMPORT:
        return f"sfu.{dotted[2]}"
    return dotted[1]


def broken_direction(path: str, use: Use) -> str | None:
    own = layer_of([*package_of(path), Path(path).stem])
    assert own is not None
    # `from mediaserver import codecs` names the layer by its most exact name alone.
    target = layer_of(use.modules[0].split("."))
    if use.header or target is None or target in MAY_IMPORT[own]:
        return None
    if COMMON.get(own, set()).intersection(use.modules):
        return None
    allowed = ", ".join(sorted(MAY_IMPORT[own])) or "nothing"
    return f"{own} may import {allowed}, not {target} ({use.modules[0]})"


def outside(path: str, use: Use) -> str | None:
    """The name of the outside world that the use brings into a file that is to be without I/O and clock."""
    if not path.startswith(SANS_IO) or path in SHELL:
        return None
    if use.header:
        return use.modules[0] if OUTSIDE_HEADERS.fullmatch(use.modules[0]) else None
    for module in use.modules:
        top = module.split(".")[0]
        if OUTSIDE_MODULES.fullmatch(top) or (top == "datetime" and not path.endswith((".py", ".pyi"))):
            return top
        if top in OUTSIDE_CIMPORT_TOPS or module in OUTSIDE_CIMPORTS:
            return module
    return None


def clock_reads(path: str, source: str) -> Iterator[tuple[int, str]]:
    """Calls that ask `datetime` or `date` for the time, in Python without I/O and clock."""
    if not path.startswith(SANS_IO) or not path.endswith(".py"):
        return
    for node in ast.walk(ast.parse(source, path)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in CLOCK_READS:
            receiver = ast.unparse(node.func.value)
            if receiver.split(".")[-1] in ("datetime", "date"):
                yield node.lineno, f"{receiver}.{node.func.attr}"


def violations(path: str, source: str) -> list[str]:
    """What a file of the product breaks, as `file:line: rule`."""
    found = []
    for use in uses_of(path, source):
        if broken := broken_direction(path, use):
            found.append(f"{path}:{use.line}: {broken}")
        if name := outside(path, use):
            found.append(f"{path}:{use.line}: codecs and sfu do no I/O and read no clock, so they use no {name}")
    found += [
        f"{path}:{line}: codecs and sfu read no clock: the time comes in with the call, not from {call}"
        for line, call in clock_reads(path, source)
    ]
    return found


def product_files() -> list[Path]:
    folders = ("codecs", "sfu", "recording", "loadtest", PRODUCT)
    endings = (".py", ".pyi", ".pyx", ".pxd", ".pxi")
    return sorted(file for folder in folders for file in (ROOT / folder).rglob("*") if file.suffix in endings)


# ---- the tests


def test_imports_run_one_way_and_nothing_without_io_reaches_out() -> None:
    found = []
    files = product_files()
    for file in files:
        found += violations(file.relative_to(ROOT).as_posix(), file.read_text(encoding="utf-8"))
    assert len(files) > 30
    assert not found, "\n" + "\n".join(found)


BROKEN = [
    ("codecs/a.py", "import mediaserver.sfu.wire.packet", 1, "codecs may import codecs, not sfu.wire"),
    ("codecs/a.py", "from mediaserver import sfu", 1, "not sfu "),
    ("codecs/a.py", "from ..sfu import wire", 1, "not sfu.wire"),
    ("codecs/a.pyx", "from mediaserver.sfu.wire.packet cimport rtp_parse", 1, "not sfu.wire"),
    ("sfu/__init__.py", "from mediaserver.sfu.wire import packet", 1, "sfu may import nothing, not sfu.wire"),
    ("sfu/wire/a.pxd", "\ncimport mediaserver.sfu.stream.leg as leg", 2, "not sfu.stream"),
    ("sfu/policy/a.pyx", "from mediaserver.sfu.stream cimport (\n    leg,\n)", 1, "not sfu.stream"),
    ("sfu/stream/a.py", "if TYPE_CHECKING:\n    from mediaserver.sfu.session.room import Room", 2, "not sfu.session"),
    ("sfu/stream/a.pyi", "def f():\n  from mediaserver.recording import tap", 2, "not recording"),
    ("sfu/session/a.py", "import importlib\nimportlib.import_module('mediaserver.config')", 2, "not mediaserver"),
    ("sfu/session/a.py", "import mediaserver", 1, "not mediaserver"),
    ("recording/a.py", "from mediaserver.clock import Clock", 1, "not mediaserver"),
    ("recording/a.py", "from mediaserver.loadtest.scene import draw", 1, "not loadtest"),
    ("loadtest/a.pyx", "try: from mediaserver.sfu.stream.leg cimport Leg\nexcept: pass", 1, "not sfu.stream"),
    ("loadtest/a.py", "import os, mediaserver.recording as r", 1, "not recording"),
    ("loadtest/a.py", "from mediaserver.server import MediaServer", 1, "not mediaserver"),
    ("recording/a.py", "from mediaserver.budgets import SourceBudget", 1, "not mediaserver"),
    ("sfu/wire/a.pyx", "x = 1; import time", 1, "use no time"),
    ("sfu/wire/a.pyx", "from . cimport packet, \\\n    stun\nimport os.path", 3, "use no os"),
    ("sfu/wire/a.pyx", "def f():\n    '''doc # not a comment '''\n    import asyncio", 3, "use no asyncio"),
    ("sfu/wire/a.pyx", "'''one\ntwo'''\n\nfrom datetime import datetime", 4, "use no datetime"),
    ("sfu/stream/a.pyx", "from libc.time cimport time", 1, "use no libc.time"),
    ("sfu/stream/a.pyx", "from libc cimport time", 1, "use no libc.time"),
    ("sfu/stream/a.pyx", "from posix.unistd cimport read", 1, "use no posix.unistd.read"),
    ("sfu/stream/a.pyx", 'cdef extern from "<sys/socket.h>" nogil:\n    int socket()', 1, "use no sys/socket.h"),
    ("sfu/stream/a.pyx", 'cdef extern from *:\n    """\n    #include <pthread.h>\n    """', 3, "use no pthread.h"),
    ("sfu/session/a.py", "from concurrent.futures import Future", 1, "use no concurrent"),
    ("sfu/session/a.py", "from datetime import datetime\nx = datetime.now()", 2, "not from datetime.now"),
    ("sfu/session/a.py", "import datetime\nx = datetime.date.today()", 2, "not from datetime.date.today"),
]


@pytest.mark.parametrize(("path", "source", "line", "rule"), BROKEN)
def test_a_breach_is_named_with_file_line_and_rule(path: str, source: str, line: int, rule: str) -> None:
    found = violations(path, source)
    assert len(found) == 1, found
    assert found[0].startswith(f"{path}:{line}: ")
    assert rule in found[0]


ALLOWED = [
    ("codecs/a.pyx", "from mediaserver.codecs.bits cimport (\n    bits_open,  # import time\n    bits_read,\n)"),
    ("codecs/a.pyx", "from .bits cimport bits_open\nfrom . cimport nal\nfrom mediaserver.codecs import unit"),
    ("codecs/a.pyx", '"""\nimport time\n"""\nx = "import os"\n# import socket\nimportant = from_ = 1'),
    ("sfu/wire/a.pyx", 'cdef extern from "<openssl/evp.h>" nogil:\n    pass'),
    ("sfu/wire/a.pyx", "cdef int f() except? -1:\n    return <int>c'x'"),
    ("sfu/session/a.py", "from mediaserver import codecs\nfrom mediaserver.sfu.policy import keyframes"),
    ("sfu/session/a.py", "from datetime import datetime\ndef f(now: datetime): return now.today"),
    ("sfu/stream/worker.pyx", "import socket, threading\nfrom libc.time cimport time"),
    ("recording/a.py", "from mediaserver import __version__"),
    ("recording/a.py", "import os\nfrom mediaserver.sfu.stream.tap import TapRing"),
    ("loadtest/a.py", "from mediaserver.budgets import SourceBudget"),
    ("loadtest/a.py", "import asyncio\nfrom mediaserver.sfu.wire.packet import EXT_URIS"),
    ("mediaserver/a.py", "from mediaserver.loadtest.cli import app\nfrom . import config"),
]


@pytest.mark.parametrize(("path", "source"), ALLOWED)
def test_what_the_rules_allow_is_left_alone(path: str, source: str) -> None:
    assert violations(path, source) == []


def test_textual_includes_are_refused() -> None:
    with pytest.raises(AssertionError, match=r"codecs/a\.pyx:2: textual include"):
        violations("codecs/a.pyx", '\ninclude "b.pxi"')
