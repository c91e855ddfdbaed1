"""The page that goes with a zip export: opened from the disk, it finds what was altered, is missing or was added."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from playwright.sync_api import expect

from mediaserver.recording import manifest
from mediaserver.recording.export.bundle import bundle
from tests.browser.conftest import Pages
from tests.recording.feed import Studio
from tests.recording.test_export import consultation

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Studio:
    made = consultation(tmp_path_factory.mktemp("archive"))
    (made.path / "report.json").write_text('{"report": true}')
    return made


@pytest.fixture
def exported(studio: Studio, tmp_path: Path) -> Path:
    """The unpacked zip; the zip itself lies beside it."""
    kept = manifest.decode((studio.path / manifest.NAME).read_bytes())
    with (tmp_path / "recording.zip").open("wb") as stream:
        bundle(studio.path, kept, stream)
    with zipfile.ZipFile(tmp_path / "recording.zip") as made:
        made.extractall(tmp_path)
    return tmp_path / studio.recording.id


def findings(page: Page, verdict: str) -> set[tuple[str, str]]:
    """What the page has found, once it has come to that verdict."""
    expect(page.locator("#verdict")).to_have_attribute("data-verdict", verdict)
    rows = page.eval_on_selector_all(
        "#findings tbody tr", "rows => rows.map((row) => [row.cells[0].textContent, row.cells[1].textContent])"
    )
    return {(kind, name) for kind, name in rows if kind != "good"}


def choose(page: Page, *paths: Path) -> None:
    page.set_input_files("#files", list(paths))


def open_page(pages: Pages, folder: Path) -> Page:
    return pages.open((folder / "verify.html").as_uri())


def test_a_recording_as_it_was_made(pages: Pages, exported: Path) -> None:
    page = open_page(pages, exported)
    choose(page, *sorted(exported.iterdir()))
    assert findings(page, "unsigned") == {("beside", "report.json")}
    expect(page.locator("#verdict")).to_contain_text("It is not signed")
    expect(page.locator("#about")).to_contain_text(exported.name)
    page.set_input_files("#folder", exported)
    assert findings(page, "unsigned") == {("beside", "report.json")}
    choose(page, exported.parent / "recording.zip")
    assert findings(page, "unsigned") == {("beside", "report.json")}


def drop(page: Page, *paths: Path) -> None:
    """As a hand would, from a file manager."""
    session = page.context.new_cdp_session(page)
    data = {"items": [], "files": [str(path) for path in paths], "dragOperationsMask": 1}
    for kind in ("dragEnter", "dragOver", "drop"):
        session.send("Input.dispatchDragEvent", {"type": kind, "x": 200, "y": 150, "data": data})


def test_what_is_dropped(pages: Pages, exported: Path) -> None:
    page = open_page(pages, exported)
    drop(page, exported)
    assert findings(page, "unsigned") == {("beside", "report.json")}
    drop(page, *(path for path in exported.iterdir() if path.name != "mic-1.mp4"))
    assert findings(page, "bad") == {("beside", "report.json"), ("missing", "mic-1.mp4")}
    drop(page, exported.parent / "recording.zip")
    assert findings(page, "unsigned") == {("beside", "report.json")}


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def _reword(path: Path) -> None:
    path.write_text(path.read_text().replace('"room-1"', '"room-2"'))


@pytest.mark.parametrize(
    ("change", "finding"),
    [
        (lambda folder: _flip(folder / "us-1.mp4"), ("altered", "us-1.mp4")),
        (lambda folder: (folder / "us-1.mp4").write_bytes(b""), ("altered", "us-1.mp4")),
        (lambda folder: (folder / "camera-1.webm").unlink(), ("missing", "camera-1.webm")),
        (lambda folder: (folder / "camera-2.webm").write_bytes(b"x"), ("added", "camera-2.webm")),
        (lambda folder: _reword(folder / "manifest.json"), ("altered", "manifest.json")),
    ],
    ids=["a bit", "emptied", "removed", "added", "manifest"],
)
def test_what_is_wrong_is_named(
    pages: Pages, exported: Path, change: Callable[[Path], Any], finding: tuple[str, str]
) -> None:
    change(exported)
    page = open_page(pages, exported)
    choose(page, *sorted(exported.iterdir()))
    assert findings(page, "bad") == {finding, ("beside", "report.json")}


def test_what_is_no_recording_is_said(pages: Pages, exported: Path) -> None:
    page = open_page(pages, exported)
    choose(page, exported / "us-1.mp4")
    expect(page.locator("#verdict")).to_contain_text("manifest.json is missing")
    with zipfile.ZipFile(exported.parent / "other.zip", "w", zipfile.ZIP_DEFLATED) as other:
        other.writestr("manifest.json", "{}")
    choose(page, exported.parent / "other.zip")
    expect(page.locator("#verdict")).to_contain_text("unpack it")
    (exported / "manifest.json").write_text(json.dumps({"version": 9}))
    choose(page, exported / "manifest.json")
    assert findings(page, "bad") == {("altered", "manifest.json")}


def test_large_files_are_hashed_in_pieces(pages: Pages, exported: Path) -> None:
    page = open_page(pages, exported)
    code = """async ([size, step]) => {
      const data = new Uint8Array(size).map((_, i) => i * 31 + (i >> 8));
      const hash = new Sha256();
      for (let at = 0; at < size; at += step) hash.update(data.subarray(at, at + step));
      return [hex(hash.digest()), await sha256Pieces(new Blob([data]))];
    }"""
    for size, step in ((0, 1), (1, 1), (55, 7), (56, 56), (63, 64), (64, 64), (65, 3), (119, 50), (10_000_000, 65_537)):
        data = bytes((i * 31 + (i >> 8)) & 0xFF for i in range(size))
        assert page.evaluate(code, [size, step]) == [hashlib.sha256(data).hexdigest()] * 2


def sign(folder: Path, key: Ed25519PrivateKey, *, supplement: bool = True) -> Path:
    """As a server with a key does: the manifest with a chain and the key's id, its signature and the report beside it.

    Gives the file with the public key.
    """
    public = key.public_key()
    identifier = hashlib.sha256(public.public_bytes(Encoding.Raw, PublicFormat.Raw)).hexdigest()[:16]
    kept = json.loads((folder / "manifest.json").read_bytes())
    segments = [segment for track in kept["tracks"] for segment in track["segments"]]
    head = hashlib.sha256(f"{kept['id']}\n".encode()).hexdigest()
    for segment in segments:
        line = f"{head} {segment['sha256']} {segment['bytes']} {segment['file']}\n"
        head = hashlib.sha256(line.encode()).hexdigest()
    chain = {"files": [segment["file"] for segment in segments], "head": head}
    kept |= {"digest": "", "chain": chain, "key": identifier}
    kept["digest"] = hashlib.sha256(canonical(kept)).hexdigest()
    (folder / "manifest.json").write_bytes(canonical(kept))
    (folder / "manifest.sig").write_bytes(key.sign(canonical(kept)))
    if supplement:
        report = (folder / "report.json").read_bytes()
        entry = {"name": "report.json", "bytes": len(report), "sha256": hashlib.sha256(report).hexdigest()}
        added: dict[str, Any] = {"version": 1, "recording": kept["id"], "manifest": kept["digest"]}
        added |= {"files": [{**entry, "added_us": 1}], "key": identifier, "signature": ""}
        added["signature"] = key.sign(canonical(added)).hex()
        (folder / "supplement.json").write_bytes(canonical(added))
    path = folder.parent / f"{identifier}.pem"
    path.write_bytes(public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return path


def canonical(value: object) -> bytes:
    return msgspec.json.format(msgspec.json.encode(value), indent=1) + b"\n"


def test_signatures(pages: Pages, exported: Path) -> None:
    public = sign(exported, Ed25519PrivateKey.generate())
    page = open_page(pages, exported)
    choose(page, *sorted(exported.iterdir()))
    assert findings(page, "unsigned") == set()
    expect(page.locator("#verdict")).to_contain_text("by no key that you have added")
    page.set_input_files("#keys", public)
    expect(page.locator("#trusted")).to_contain_text(public.stem)
    assert findings(page, "good") == set()
    # A report that came later is signed too.
    (exported / "report.json").write_text("{}")
    choose(page, *sorted(exported.iterdir()))
    assert findings(page, "bad") == {("altered", "report.json")}


def test_forged_signatures(pages: Pages, exported: Path) -> None:
    key = Ed25519PrivateKey.generate()
    public = sign(exported, key)
    genuine = (exported / "manifest.sig").read_bytes()
    page = open_page(pages, exported)
    page.set_input_files("#keys", public)
    expect(page.locator("#trusted")).to_contain_text(public.stem)
    (exported / "manifest.sig").write_bytes(bytes(64))
    choose(page, *sorted(exported.iterdir()))
    assert findings(page, "bad") == {("altered", "manifest.sig")}
    (exported / "manifest.sig").unlink()
    choose(page, *sorted(exported.iterdir()))
    assert findings(page, "bad") == {("missing", "manifest.sig")}
    (exported / "manifest.sig").write_bytes(genuine)
    # Another list, made by somebody without the key.
    forged = json.loads((exported / "supplement.json").read_bytes()) | {"key": "", "signature": ""}
    (exported / "supplement.json").write_bytes(canonical(forged))
    choose(page, *sorted(exported.iterdir()))
    assert findings(page, "bad") == {("altered", "supplement.json")}
    (exported / "supplement.json").unlink()
    # A whole manifest of another key, with the digest right.
    sign(exported, Ed25519PrivateKey.generate(), supplement=False)
    choose(page, *sorted(exported.iterdir()))
    assert findings(page, "unsigned") == {("beside", "report.json")}
    expect(page.locator("#verdict")).to_contain_text("by no key that you have added")


def test_a_chain_that_does_not_fit(pages: Pages, exported: Path) -> None:
    sign(exported, Ed25519PrivateKey.generate())
    kept = json.loads((exported / "manifest.json").read_bytes())
    kept["chain"]["files"].reverse()
    kept["digest"] = ""
    kept["digest"] = hashlib.sha256(canonical(kept)).hexdigest()
    (exported / "manifest.json").write_bytes(canonical(kept))
    (exported / "supplement.json").unlink()
    page = open_page(pages, exported)
    choose(page, *sorted(exported.iterdir()))
    assert findings(page, "bad") == {("altered", "manifest.json"), ("beside", "report.json")}
