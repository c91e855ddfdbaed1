"""The commands as a user types them, in processes of their own."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import jwt
import pytest
from typer.testing import CliRunner, Result

from mediaserver import __version__
from mediaserver.__main__ import app
from mediaserver.config import example

SECONDS = 60


def called(*arguments: str, cwd: Path, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mediaserver", *arguments],
        cwd=cwd,
        env={"PATH": "/usr/bin:/bin"} | (env or {}),
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )


def inside(*arguments: str, env: dict[str, str] | None = None) -> Result:
    """The same without a process, for what ends before a server starts."""
    return CliRunner(env=env).invoke(app, arguments)


@contextmanager
def running(*arguments: str, cwd: Path) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "mediaserver", *arguments],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def read_until(process: subprocess.Popen[str], pattern: str) -> str:
    """Its output up to a line that matches."""
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if re.search(pattern, line):
            return "".join(lines)
    raise AssertionError(f'no line like "{pattern}" in:\n{"".join(lines)}')


def test_version(tmp_path: Path) -> None:
    assert called("--version", cwd=tmp_path).stdout == f"{__version__}\n"


def test_help_lists_all_commands(tmp_path: Path) -> None:
    text = called("--help", cwd=tmp_path).stdout
    for command in ("serve", "cart", "archive", "loadtest", "token"):
        assert re.search(rf"^  {command} ", text, re.MULTILINE), command


@pytest.mark.parametrize("command", ["serve", "cart", "archive", "loadtest", "token"])
def test_help_of_each(tmp_path: Path, command: str) -> None:
    done = called(command, "--help", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"mediaserver {command}" in done.stdout


@pytest.mark.parametrize(
    ("command", "unwanted"),
    [("token", "av|sqlalchemy|aiohttp|uvloop|prometheus_client|OpenSSL"), ("archive", "av|sqlalchemy|aiohttp|uvloop")],
)
def test_commands_bring_only_what_they_need(tmp_path: Path, command: str, unwanted: str) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "mediaserver", command, "--help"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=True,
    )
    assert re.findall(rf"\| +({unwanted})$", done.stderr, re.MULTILINE) == []


def test_config() -> None:
    assert inside("config").stdout == example()


def test_token_alone(tmp_path: Path) -> None:
    secret = "s" * 32
    arguments = ["token", "--room", "ward-3", "--role", "doctor", "--rights", "subscribe,record", "--name", "Dr. A"]
    done = called(*arguments, "--secret", secret, cwd=tmp_path)
    assert done.stderr == ""
    claims = jwt.decode(done.stdout.strip(), secret, algorithms=["HS256"])
    assert (claims["room"], claims["role"], claims["name"]) == ("ward-3", "doctor", "Dr. A")
    assert claims["rights"] == ["record", "subscribe"]
    assert claims["exp"] - claims["iat"] == 24 * 3600
    from_environment = inside(*arguments, env={"MEDIASERVER_AUTH_SECRET": secret})
    assert jwt.decode(from_environment.stdout.strip(), secret, algorithms=["HS256"])["room"] == "ward-3"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["token", "--room", "r", "--role", "doctor"], "secret"),
        (["token", "--secret", "s", "--room", "../r", "--role", "doctor"], "is no room"),
        (["token", "--secret", "s", "--room", "r", "--role", "doctor", "--rights", "fly"], '"fly"'),
        (["token", "--secret", "s", "--room", "r", "--role", "god"], "god"),
        (["serve", "--http", "nonsense"], "ADDR:PORT"),
        (["serve", "--config", "none.toml"], "none.toml"),
        (["serve", "--tls", "maybe"], "self-signed"),
        (["fly"], "fly"),
    ],
)
def test_mistakes_are_told_in_a_sentence(arguments: list[str], words: str) -> None:
    done = inside(*arguments)
    assert done.exit_code == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["cart", "--room", "r", "--token", "t", "--url", "https://"],
        ["loadtest", "--secret", "s", "--url", "wss://h"],
    ],
)
def test_what_is_no_address_of_a_server_is_not_tried_for_ever(tmp_path: Path, arguments: list[str]) -> None:
    done = called(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert "http://HOST:PORT or https://HOST:PORT" in done.stderr


def test_unknown_key_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "m.toml").write_text('[http]\nadress = ":1"\n')
    done = inside("serve", "--config", "m.toml")
    assert done.exit_code == 2
    assert done.stderr == 'mediaserver: m.toml: unknown key "http.adress"; did you mean "http.address"?\n'
    done = inside("serve", env={"MEDIASERVER_HTTP_ADRESS": ":1"})
    assert 'MEDIASERVER_HTTP_ADRESS: unknown key "http.adress"' in done.stderr


def test_busy_port(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        done = called("serve", "--http", address, "--udp", ":0", "--workers", "1", cwd=tmp_path)
    assert done.returncode == 1
    assert f"\nmediaserver: HTTP port {address} is in use by another program" in done.stderr
    assert "--http ADDR:PORT" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_serve_until_stopped(tmp_path: Path, number: signal.Signals) -> None:
    arguments = ["serve", "--http", "127.0.0.1:0", "--udp", ":0", "--data", "d", "--workers", "1", "--record", "off"]
    with running(*arguments, cwd=tmp_path) as server:
        text = read_until(server, "make tokens with")
        assert "No secret is configured" in text
        viewer = re.search(r"viewer +(http://127\.0\.0\.1:\d+)/viewer\?room=demo#token=(\S+)", text)
        assert viewer is not None
        with urllib.request.urlopen(f"{viewer[1]}/healthz", timeout=SECONDS) as response:
            assert json.load(response) == {"status": "ok"}
        server.send_signal(number)
        rest, _ = server.communicate(timeout=SECONDS)
        assert rest.splitlines() == ["", "Stopping.", "Stopped."]
        assert server.returncode == 0
    events = [json.loads(line)["event"] for line in (tmp_path / "d" / "audit.log").read_text().splitlines()]
    assert [event for event in events if event != "trail-sealed"] == ["server-started", "server-stopped"]
    checked = called("archive", "--data", "d", "verify", "--all", cwd=tmp_path)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_serve_with_a_secret_gives_no_tokens_away(tmp_path: Path) -> None:
    arguments = ["serve", "--http", "127.0.0.1:0", "--udp", ":0", "--workers", "1", "--secret", "short"]
    with running(*arguments, cwd=tmp_path) as server:
        text = read_until(server, "The secret is short")
        assert "token" not in text
        assert re.search(r"viewer +http://127\.0\.0\.1:\d+/viewer\n", text)


def test_demo(tmp_path: Path) -> None:
    """What `make run` starts: the cart publishes, the recording runs, Ctrl-C ends both."""
    arguments = ["demo", "--http", "127.0.0.1:0", "--udp", ":0", "--data", "d", "--workers", "1"]
    with running(*arguments, cwd=tmp_path) as server:
        read_until(server, "cart: recording is on")
        server.send_signal(signal.SIGINT)
        rest, _ = server.communicate(timeout=SECONDS)
        assert rest.splitlines()[-1] == "Stopped."
        assert "cart: stopped" in rest
        assert server.returncode == 0
    listed = called("archive", "--data", "d", "list", "--json", cwd=tmp_path)
    (recording,) = json.loads(listed.stdout)["recordings"]
    assert {track["source"] for track in recording["tracks"]} >= {"ultrasound", "camera"}
    verified = called("archive", "--data", "d", "verify", recording["id"], cwd=tmp_path)
    assert verified.returncode == 0, verified.stdout + verified.stderr


def test_demo_tells_of_a_cart_that_crashed(tmp_path: Path) -> None:
    arguments = ["demo", "--http", "127.0.0.1:0", "--udp", ":0", "--data", "d", "--workers", "1", "--record", "off"]
    with running(*arguments, cwd=tmp_path) as server:
        read_until(server, "^cart: ")
        (cart,) = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()
        subprocess.run(["kill", "-9", cart], check=True)
        text = read_until(server, "Start another with")
        assert "has ended with code -9; the server goes on" in text
        server.send_signal(signal.SIGINT)
        assert server.wait(timeout=SECONDS) == 0


SECRETIVE = """
import structlog
from mediaserver.run import set_up_logs
from mediaserver.settings import LogSettings

def handle(token):
    raise ValueError("no good")

set_up_logs(LogSettings(format={format!r}))
try:
    handle("ey" + "J" * 40)
except ValueError:
    structlog.get_logger("test").exception("a message could not be handled")
"""


@pytest.mark.parametrize("form", ["console", "json"])
def test_logs_say_where_a_mistake_was_made_and_not_with_what(tmp_path: Path, form: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SECRETIVE.format(format=form)], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert "in handle" in done.stderr
    assert "ValueError: no good" in done.stderr
    assert "eyJJ" not in done.stderr
