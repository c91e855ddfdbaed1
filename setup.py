"""Builds the Cython extensions of the top-level folders as ``mediaserver.*``.

Environment switches (all optional):

- ``MEDIASERVER_SANITIZE=address,undefined`` compiles with those sanitizers, at -O1 with frame pointers.
- ``MEDIASERVER_TRACE=1`` compiles with line tracing, for coverage. Switch it on or off with ``--force``.
- ``MEDIASERVER_IPSEC_MB=0`` leaves ipsec-mb out even where its header is.
- ``MEDIASERVER_ONLY=sfu/wire,codecs`` builds the extensions below those folders alone.
"""

from __future__ import annotations

import os
import sysconfig
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent
# The product's folders and the package that each is imported as.
PACKAGES = {
    "mediaserver": "mediaserver",
    "mediaserver.codecs": "codecs",
    "mediaserver.sfu": "sfu",
    "mediaserver.recording": "recording",
    "mediaserver.loadtest": "loadtest",
}
SANITIZE = os.environ.get("MEDIASERVER_SANITIZE", "")
TRACE = os.environ.get("MEDIASERVER_TRACE", "") not in ("", "0")
# Intel's ipsec-mb is for one architecture. Its header alone is needed here: the library is opened where it is used.
IPSEC_MB = (
    sysconfig.get_platform() == "linux-x86_64"
    and os.environ.get("MEDIASERVER_IPSEC_MB", "1") not in ("", "0")
    and any(Path(folder, "intel-ipsec-mb.h").exists() for folder in ("/usr/include", "/usr/local/include"))
)
ONLY = tuple(part for part in os.environ.get("MEDIASERVER_ONLY", "").split(",") if part)


def lay_tree() -> Path:
    """Lay ``build/tree/mediaserver`` as links, so that Cython and mypy find modules by their dotted names."""
    tree = ROOT / "build" / "tree"
    package = tree / "mediaserver"
    package.mkdir(parents=True, exist_ok=True)
    links = {entry.name: entry for entry in (ROOT / "mediaserver").iterdir() if entry.name != "__pycache__"}
    links |= {folder: ROOT / folder for name, folder in PACKAGES.items() if name != "mediaserver"}
    for stale in set(os.listdir(package)) - set(links):
        (package / stale).unlink()
    for name, target in links.items():
        link = package / name
        if not link.is_symlink():
            link.symlink_to(target)
    return tree


def find_packages() -> dict[str, str]:
    """Every package of the product with its folder."""
    found = {}
    for name, folder in PACKAGES.items():
        for init in sorted((ROOT / folder).rglob("__init__.py")):
            inner = init.parent.relative_to(ROOT / folder).parts
            found[".".join((name, *inner))] = "/".join((folder, *inner))
    return found


def find_extensions() -> list[Extension]:
    compile_args = ["-O3", "-g", "-fno-strict-aliasing", "-Wno-unused-function", "-Wno-sign-compare"]
    link_args = ["-Wl,--as-needed"]
    if SANITIZE:
        flags = [f"-fsanitize={SANITIZE}", "-fno-omit-frame-pointer"]
        compile_args = [*compile_args, "-O1", *flags]
        link_args += flags
    macros = [("CYTHON_TRACE", "1"), ("CYTHON_TRACE_NOGIL", "1")] if TRACE else []
    with_ipsec_mb = [*macros, ("MEDIASERVER_IPSEC_MB", "1")]
    extensions = []
    for package, folder in find_packages().items():
        if ONLY and not folder.startswith(ONLY):
            continue
        for source in sorted((ROOT / folder).glob("*.pyx")):
            extensions.append(
                Extension(
                    f"{package}.{source.stem}",
                    [f"{folder}/{source.name}"],
                    libraries=["ssl", "crypto"],
                    extra_compile_args=compile_args,
                    extra_link_args=link_args,
                    define_macros=with_ipsec_mb if IPSEC_MB and source.stem == "gcm" else macros,
                )
            )
    return extensions


class BuildExtensions(build_ext):
    """Cythonizes late, so that the sdist carries the .pyx files and the wheel is never silently pure."""

    def build_extensions(self) -> None:
        from Cython.Build import cythonize

        tree = lay_tree()
        cores = os.cpu_count() or 1
        compiled = cythonize(
            self.extensions,
            nthreads=cores,
            include_path=[str(tree)],
            force=bool(self.force),
            quiet=True,
            language_level=3,
            compiler_directives={
                "boundscheck": False,
                "wraparound": False,
                "initializedcheck": False,
                "cdivision": True,
                "embedsignature": False,
                "linetrace": TRACE,
            },
        )
        # The C sources go into the extensions that setuptools has prepared; its own bookkeeping hangs on those.
        sources = {extension.name: extension.sources for extension in compiled}
        for extension in self.extensions:
            extension.sources = sources[extension.name]
        self.rebuild_with_ipsec_mb()
        self.parallel = self.parallel or cores
        super().build_extensions()

    def rebuild_with_ipsec_mb(self) -> None:
        """What was built before the header came, or before it went, is built again: no source tells of it."""
        built = Path(self.build_temp) / "ipsec-mb"
        now = str(IPSEC_MB)
        if not built.exists() or built.read_text() != now:
            for extension in self.extensions:
                if extension.name == "mediaserver.sfu.wire.gcm":
                    Path(self.get_ext_fullpath(extension.name)).unlink(missing_ok=True)
            built.parent.mkdir(parents=True, exist_ok=True)
            built.write_text(now)


setup(
    packages=list(find_packages()),
    package_dir=find_packages(),
    package_data={
        "": ["*.pyx", "*.pxd", "*.pyi", "py.typed"],
        "mediaserver": ["web/*", "web/**/*"],
        "mediaserver.reports": ["templates/*.html"],
        "mediaserver.loadtest": ["scenarios/*.toml", "templates/*.html"],
        "mediaserver.recording.export": ["verify.html"],
    },
    exclude_package_data={"": ["*.c"]},
    ext_modules=find_extensions(),
    cmdclass={"build_ext": BuildExtensions},
)
