"""Compiles the bench's own extensions, into build/bench: they are no part of the product."""

from __future__ import annotations

import fcntl
import importlib.util
import subprocess
import sys
import sysconfig
from pathlib import Path
from types import ModuleType

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
OUT = ROOT / "build" / "bench"
TREE = ROOT / "build" / "tree"
_SUFFIX = sysconfig.get_config_var("EXT_SUFFIX")
_DIRECTIVES = ("boundscheck=False", "wraparound=False", "initializedcheck=False", "cdivision=True")


def load(name: str) -> ModuleType:
    """Import `tests/bench/NAME.pyx`, compiled when it or what it is made of has changed."""
    OUT.mkdir(parents=True, exist_ok=True)
    with (OUT / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _compile(name)
    # Not by `sys.path`: others have extensions of these names too.
    full = f"tests.bench.{name}"
    if full not in sys.modules:
        spec = importlib.util.spec_from_file_location(full, OUT / f"{name}{_SUFFIX}")
        assert spec is not None
        assert spec.loader is not None
        sys.modules[full] = module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return sys.modules[full]


def _compile(name: str) -> None:
    source, made, binary = HERE / f"{name}.pyx", OUT / f"{name}.c", OUT / f"{name}{_SUFFIX}"
    # What it takes from the product by its .pxd files is checked by Cython when it is imported, but only their sizes.
    newest = max(path.stat().st_mtime for path in (source, *ROOT.glob("sfu/**/*.pxd"), *ROOT.glob("codecs/*.pxd")))
    if binary.exists() and binary.stat().st_mtime > newest:
        return
    directives = [part for directive in _DIRECTIVES for part in ("-X", directive)]
    cython = [sys.executable, "-m", "cython", "-3", *directives, "-I", str(TREE), "-o", str(made), str(source)]
    subprocess.run(cython, check=True, cwd=OUT)
    flags = ["-shared", "-fPIC", "-O3", "-g", "-fno-strict-aliasing", f"-I{sysconfig.get_paths()['include']}"]
    compiler = (sysconfig.get_config_var("CC") or "cc").split()
    subprocess.run([*compiler, *flags, str(made), "-o", str(binary), "-lcrypto"], check=True)
