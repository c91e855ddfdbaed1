"""Builds what the fuzz targets need: with sanitizers and coverage in a copy of the sources, or plain for a test."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
OUT = ROOT / "build" / "fuzz"
COPY = OUT / "src"
FOLDERS = ("codecs", "loadtest", "mediaserver", "recording", "sfu")
FILES = ("setup.py", "pyproject.toml", "README.md", "LICENSE")
SUFFIXES = (".py", ".pyx", ".pxd", ".pyi")
EXT_SUFFIX = sysconfig.get_config_var("EXT_SUFFIX")
# Of "undefined" all but pointer-overflow: Cython's own argument parsing adds 0 to a null pointer.
SANITIZERS = (
    "address,alignment,bool,bounds,enum,float-cast-overflow,integer-divide-by-zero,nonnull-attribute,null,object-size,"
    "return,returns-nonnull-attribute,shift,signed-integer-overflow,unreachable,vla-bound,fuzzer-no-link"
)
DIRECTIVES = ("boundscheck=False", "wraparound=False", "cdivision=True")


class BuildError(Exception):
    """The build is impossible here; the message says why."""


@contextmanager
def lock() -> Iterator[None]:
    OUT.mkdir(parents=True, exist_ok=True)
    with (OUT / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def runtime(name: str) -> Path:
    """A library of clang's compiler runtime."""
    if shutil.which("clang") is None:
        raise BuildError("clang is needed, with its compiler-rt libraries (Debian: clang, libclang-rt-dev)")
    found = subprocess.run(["clang", f"-print-file-name={name}"], capture_output=True, text=True, check=True)
    path = Path(found.stdout.strip())
    if not path.is_absolute():
        # Before clang 15 the runtime lies in a folder that -print-file-name does not search.
        resources = subprocess.run(["clang", "-print-resource-dir"], capture_output=True, text=True, check=True)
        path = Path(resources.stdout.strip()) / "lib" / "linux" / name
    if not path.exists():
        raise BuildError(f"clang has no {name}; install its compiler-rt libraries (Debian: libclang-rt-dev)")
    return path


def sanitizer_environment() -> dict[str, str]:
    """The environment in which a Python process can load the sanitized copy."""
    return os.environ | {
        # libFuzzer first: the sanitizer runtime has empty coverage callbacks that would be found before its own.
        "LD_PRELOAD": f"{OUT / 'sanitized' / 'libfuzzer.so'}:{runtime('libclang_rt.asan-x86_64.so')}",
        "PYTHONMALLOC": "malloc",
        # An interpreter frees little of what it holds when it ends.
        "ASAN_OPTIONS": "verify_asan_link_order=0:detect_leaks=0:allocator_may_return_null=1:handle_abort=0",
        "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1",
    }


def sanitized() -> None:
    """Bring the sanitized copy of the product, the kernels and the driver up to date. Raises BuildError."""
    with lock():
        archive = runtime("libclang_rt.fuzzer_no_main-x86_64.a")
        copy_sources()
        environment = os.environ | {
            "CC": "clang",
            "LDSHARED": "clang -shared",
            "CFLAGS": "-fno-sanitize-recover=all",
            "MEDIASERVER_SANITIZE": SANITIZERS,
            "MEDIASERVER_ONLY": "codecs,sfu",
        }
        check([sys.executable, "setup.py", "-q", "build_ext", "--inplace"], cwd=COPY, env=environment)
        flags = ["-g", "-O1", f"-fsanitize={SANITIZERS}", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer"]
        link_libfuzzer(archive)
        tree = COPY / "build" / "tree"
        compile_module("kernels", OUT / "sanitized", tree, "clang", flags)
        compile_module("driver", OUT / "sanitized", tree, "clang", flags)


def link_libfuzzer(archive: Path) -> None:
    """libFuzzer as a shared library, with the counters that the driver's trace function keeps for it."""
    library = OUT / "sanitized" / "libfuzzer.so"
    if library.exists() and (HERE / "build.py").stat().st_mtime < library.stat().st_mtime:
        return
    library.parent.mkdir(parents=True, exist_ok=True)
    source = library.with_name("line_counters.c")
    source.write_text(
        '__attribute__((section("__libfuzzer_extra_counters"), used)) unsigned char line_counters[1 << 15];\n'
    )
    whole = ["-Wl,--whole-archive", str(archive), "-Wl,--no-whole-archive", "-lstdc++", "-lpthread", "-ldl"]
    check(["clang", "-shared", "-fPIC", str(source), *whole, "-o", str(library)], cwd=OUT)


def plain() -> Path:
    """Bring the kernels up to date without sanitizers, beside the product as it is built in place."""
    with lock():
        compiler = shutil.which("cc") or shutil.which("clang")
        if compiler is None:
            raise BuildError("a C compiler is needed")
        return compile_module("kernels", OUT / "plain", ROOT / "build" / "tree", compiler, ["-O1"])


def copy_sources() -> None:
    """Only what has changed, so that the build takes up where it stood."""
    COPY.mkdir(parents=True, exist_ok=True)
    wanted = [ROOT / name for name in FILES]
    for folder in FOLDERS:
        wanted += [path for path in (ROOT / folder).rglob("*") if path.suffix in SUFFIXES]
    present = {COPY / path.relative_to(ROOT) for path in wanted}
    for folder in FOLDERS:
        for path in (COPY / folder).rglob("*"):
            if path.suffix in SUFFIXES and path not in present:
                path.unlink()
    for path in wanted:
        target = COPY / path.relative_to(ROOT)
        if not target.exists() or target.read_bytes() != path.read_bytes():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)


def compile_module(name: str, out: Path, tree: Path, compiler: str, flags: list[str]) -> Path:
    """One of this folder's Cython modules as `out/name.so`, when something that it may be built from is newer."""
    out.mkdir(parents=True, exist_ok=True)
    source, library = out / f"{name}.c", out / f"{name}{EXT_SUFFIX}"
    inputs = [*tree.glob("mediaserver/*/**/*.pxd"), *HERE.glob("*.p[xy][xd]"), HERE / "build.py"]
    if library.exists() and all(path.stat().st_mtime < library.stat().st_mtime for path in inputs):
        return library
    # Outside this package, so that the modules find each other by their bare names.
    for path in HERE.glob("*.p[xy][xd]"):
        shutil.copyfile(path, out / path.name)
    options = [option for directive in DIRECTIVES for option in ("-X", directive)]
    check([sys.executable, "-m", "cython", "-3", *options, "-I", str(tree), f"{name}.pyx", "-o", str(source)], cwd=out)
    compilation = [compiler, "-shared", "-fPIC", "-w", f"-I{sysconfig.get_path('include')}", str(source), *flags]
    check([*compilation, "-lcrypto", "-o", str(library)], cwd=out)
    return library


def check(command: list[str], cwd: Path, env: dict[str, str] | None = None) -> None:
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BuildError(f"{' '.join(command)} failed:\n{done.stdout[-4000:]}{done.stderr[-4000:]}")
