"""What is shipped: the sdist holds every source, and the wheel that is built from it works where nothing else is."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from collections.abc import Iterable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("codecs", "sfu", "recording", "mediaserver", "loadtest")
LEFT_OUT = shutil.ignore_patterns("__pycache__", "*.so", "*.c", "*.egg-info")

IMPORT_ALL = """
import importlib, json, sys
found = {name: importlib.import_module(name).__file__ for name in json.load(sys.stdin)}
from importlib.resources import files
from mediaserver import Config, MediaServer
web = sorted(str(p.relative_to(files("mediaserver"))) for p in files("mediaserver").joinpath("web").iterdir())
print(json.dumps({"modules": found, "web": web}))
"""


def sources(*endings: str) -> set[str]:
    """The product's files with these endings, relative to the checkout."""
    found = (path for folder in FOLDERS for path in (ROOT / folder).rglob("*"))
    return {str(path.relative_to(ROOT)) for path in found if path.suffix in endings and "egg-info" not in str(path)}


def run(*command: str | Path, cwd: Path, stdin: str = "") -> str:
    """What it prints; its errors are the test's."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MEDIASERVER_", "PYTHON"))}
    done = subprocess.run(
        list(map(str, command)), cwd=cwd, input=stdin, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    return done.stdout


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made from a copy of the checkout without anything that was built in it."""
    folder = tmp_path_factory.mktemp("sdist")
    checkout = folder / "checkout"
    checkout.mkdir()
    for name in (*FOLDERS, "docs", "tests"):
        shutil.copytree(ROOT / name, checkout / name, ignore=LEFT_OUT)
    for path in ROOT.iterdir():
        if path.is_file():
            shutil.copy(path, checkout)
    run(sys.executable, "-m", "build", "--sdist", "--no-isolation", "--outdir", folder, cwd=checkout)
    (made,) = folder.glob("*.tar.gz")
    return made


def test_the_sdist_holds_every_source_and_nothing_built(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    wanted = sources(".py", ".pyx", ".pxd", ".pyi", ".html", ".js", ".css", ".mako")
    assert len([name for name in wanted if name.endswith(".pyx")]) > 40
    assert wanted - names == set()
    assert {"LICENSE", "README.md", "CHANGELOG.md", "pyproject.toml", "setup.py"} <= names
    assert [name for name in names if name.endswith((".c", ".so")) or name.startswith("tests/")] == []


def make_environment(folder: Path, wheel: Path) -> Path:
    """A fresh virtual environment with the wheel; its interpreter. What the wheel depends on is lent, nothing else."""
    venv.create(folder, with_pip=False)
    site = folder / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    # Names in a .pth file are looked into, but .pth files in there are not: the editable install stays out.
    (site / "lent.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    python = folder / "bin" / "python"
    install = ("-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--no-warn-script-location")
    run(python, *install, "--ignore-installed", wheel, cwd=folder)
    return python


def modules_of(names: Iterable[str]) -> list[str]:
    dotted = [name.removesuffix(".pyx").replace("/", ".") for name in names]
    return sorted(f"mediaserver.{name}" for name in dotted)


@pytest.mark.soak
def test_the_wheel_works_where_nothing_else_is(sdist: Path, tmp_path: Path) -> None:
    with tarfile.open(sdist) as archive:
        # Debian 12's Python has no filters yet, later ones want one to be named.
        archive.extractall(tmp_path, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
    (unpacked,) = tmp_path.glob("mediaserver-*")
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path, cwd=unpacked)
    (wheel,) = tmp_path.glob("*.whl")
    shutil.rmtree(unpacked)
    assert not wheel.name.endswith("-none-any.whl"), "a pure wheel"
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    extensions = modules_of(sources(".pyx"))
    assert len([name for name in names if name.endswith(".so")]) == len(extensions)
    assert {f"mediaserver/{name.removeprefix('mediaserver/')}" for name in sources(".pyi", ".html", ".js")} <= set(
        names
    )

    python = make_environment(tmp_path / "environment", wheel)
    told = json.loads(run(python, "-I", "-c", IMPORT_ALL, cwd=tmp_path, stdin=json.dumps(extensions)))
    home = str(tmp_path / "environment")
    assert [path for path in told["modules"].values() if not path.startswith(home)] == []
    assert {"web/client.js", "web/viewer.html", "web/cart.html", "web/archive.html"} <= set(told["web"])

    command = python.parent / "mediaserver"
    secret = "a-secret-of-the-package-test-0123456789"
    token = run(command, "token", "--secret", secret, "--room", "ward", "--role", "doctor", cwd=tmp_path)
    assert re.fullmatch(r"[\w-]+\.[\w-]+\.[\w-]+\n", token)
    serve_once(command, tmp_path)


def serve_once(command: Path, folder: Path) -> None:
    """The server starts from the wheel, gives its pages, and ends."""
    from urllib.request import urlopen

    line = [command, "serve", "--http", "127.0.0.1:0", "--udp", "127.0.0.1:0", "--data", folder / "data"]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        list(map(str, line)), cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    ) as server:
        assert server.stdout is not None
        try:
            address = next(found[0] for text in server.stdout if (found := re.search(r"http://[\d.]+:\d+", text)))
            for path in ("/viewer", "/static/client.js", "/asyncapi.json", "/readyz"):
                with urlopen(address + path, timeout=30) as response:
                    assert response.status == 200
                    assert response.read()
        finally:
            server.terminate()
        server.stdout.read()
        assert server.wait(30) == 0
