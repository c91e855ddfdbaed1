"""Settings: where they come from, which wins, and what is said when one is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from mediaserver.config import ConfigError, example, load
from mediaserver.settings import Config, Endpoint, parse_endpoint
from mediaserver.sfu.session.model import Source

ROOT = Path(__file__).parents[2]


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "mediaserver.toml"
    path.write_text(text)
    return path


def refusal(tmp_path: Path, text: str = "", environ: dict[str, str] | None = None) -> str:
    with pytest.raises(ConfigError) as refused:
        load(written(tmp_path, text), environ or {})
    return str(refused.value)


def test_defaults() -> None:
    assert load(None, {}) == Config()


def test_example_is_fresh_and_means_the_defaults() -> None:
    path = ROOT / "mediaserver.example.toml"
    assert path.read_text() == example(), "write it anew: mediaserver config > mediaserver.example.toml"
    assert load(path, {}) == Config()


def test_every_setting_is_documented() -> None:
    lines = example().splitlines()
    for number, line in enumerate(lines):
        if " = " in line and "{" not in line and not line.startswith("#"):
            section = next(text for text in reversed(lines[:number]) if text.startswith("["))
            assert lines[number - 1].startswith("# ") or section.startswith("[policy."), line


def test_order_of_precedence(tmp_path: Path) -> None:
    path = written(tmp_path, '[http]\naddress = "1.2.3.4:1"\n[media]\nworkers = 1\n[rooms]\nmax_rooms = 9\n')
    environ = {"MEDIASERVER_HTTP_ADDRESS": "1.2.3.4:2", "MEDIASERVER_MEDIA_WORKERS": "2", "PATH": "/bin"}
    config = load(path, environ, {"http": {"address": "1.2.3.4:3"}, "media": {"udp": None}})
    assert config.http.endpoint == Endpoint("1.2.3.4", 3)
    assert config.media.workers == 2
    assert config.rooms.max_rooms == 9
    assert config.media.udp == Config().media.udp


def test_environment_has_types() -> None:
    config = load(
        None,
        {
            "MEDIASERVER_MEDIA_ANNOUNCE": "192.0.2.7, 2001:db8::1",
            "MEDIASERVER_HTTP_METRICS": "false",
            "MEDIASERVER_SIGNALLING_RESUME_SECONDS": "1.5",
        },
    )
    assert config.media.announce == ("192.0.2.7", "2001:db8::1")
    assert config.http.metrics is False
    assert config.signalling.resume_seconds == 1.5


def test_foreign_environment_is_left_alone() -> None:
    kubernetes = {
        "MEDIASERVER_PORT": "tcp://10.0.0.1:80",
        "MEDIASERVER_PORT_80_TCP": "x",
        "MEDIASERVER_SERVICE_HOST": "x",
    }
    build = {"MEDIASERVER_SANITIZE": "address", "MEDIASERVER_ONLY": "sfu", "MEDIASERVER_IPSEC_MB": "0"}
    assert load(None, build | kubernetes) == Config()


@pytest.mark.parametrize(
    ("text", "key", "hint"),
    [
        ("[http]\nadress = 'x'", '"http.adress"', '"http.address"'),
        ("[htpp]\naddress = 'x'", '"htpp"', '"http"'),
        ("zzz = 1", '"zzz"', "media"),
        ("[policy.sources.ultrasond]\nstale_ms = 1", '"policy.sources.ultrasond"', "ultrasound"),
        ("[policy.sources.ultrasound]\nstale = 1", '"policy.sources.ultrasound.stale"', "stale_ms"),
        (
            "[policy.sources.camera.frames_per_second]\nflor = 1",
            '"policy.sources.camera.frames_per_second.flor"',
            "floor",
        ),
        ("[policy.skew]\nsound = 1", '"policy.skew.sound"', "sound_"),
    ],
)
def test_unknown_keys_are_named(tmp_path: Path, text: str, key: str, hint: str) -> None:
    message = refusal(tmp_path, text)
    assert key in message
    assert hint in message
    assert "mediaserver.toml" in message


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("MEDIASERVER_HTTP_ADRESS", '"http.adress"'),
        ("MEDIASERVER_HTP_ADDRESS", '"htp"'),
        ("MEDIASERVER_HTTP", '"http."'),
        ("MEDIASERVER_POLICY_SOURCES", "policy.sources"),
    ],
)
def test_unknown_variables_are_named(tmp_path: Path, name: str, key: str) -> None:
    message = refusal(tmp_path, environ={name: "1"})
    assert name in message
    assert key in message


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[media]\nworkers = 'two'", ["media.workers", "int"]),
        ("[media]\nworkers = -1", ["media.workers", "0"]),
        ("[media]\nudp = 'host:1'", ["media", "host"]),
        ("[media]\nudp = ':65535'\nworkers = 2", ["media", "65535"]),
        ("[media]\nmemory_mb = 99999999999999", ["media.memory_mb", "16777216"]),
        ("[data]\ndir = ''", ["data.dir", "length >= 1"]),
        ("[media]\nannounce = ['example.org']", ["media", "example.org"]),
        ("[http]\naddress = '::1:80'", ["http", "brackets"]),
        ("[http]\naddress = 'a:99999'", ["http", "65535"]),
        ("[http]\ncertificate = 'a'", ["http", "key"]),
        ("[http]\ncertificate = 'a'\nkey = 'b'\ntls = 'self-signed'", ["http", "self-signed"]),
        ("[recording]\npolicy = 'maybe'", ["recording.policy", "maybe"]),
        ("http = 5", ["http"]),
        ("[[http]]\naddress = ''", ["http"]),
        ("[http", ["mediaserver.toml"]),
    ],
)
def test_wrong_values_are_named(tmp_path: Path, text: str, words: list[str]) -> None:
    message = refusal(tmp_path, text)
    for word in words:
        assert word in message


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.toml: No such file"):
        load(tmp_path / "none.toml", {})


def test_policy_changes_single_figures(tmp_path: Path) -> None:
    text = "[policy.sources.ultrasound]\nstale_ms = 100\nframes_per_second = { alarm = 20 }\n"
    sources = load(written(tmp_path, text), {}).policy.sources
    ultrasound = sources[Source.ULTRASOUND]
    assert (ultrasound.stale_ms, ultrasound.frames_per_second.alarm, ultrasound.frames_per_second.floor) == (
        100,
        20,
        15,
    )
    assert sources[Source.CAMERA] == Config().policy.sources[Source.CAMERA]
    assert set(sources) == set(Source)


def test_policy_for_a_robot(tmp_path: Path) -> None:
    text = '[policy]\nultrasound = "robotic"\n[policy.sources.ultrasound]\nstale_ms = 100\n'
    ultrasound = load(written(tmp_path, text), {}).policy.sources[Source.ULTRASOUND]
    assert (ultrasound.stale_ms, ultrasound.frames_per_second.target, ultrasound.server_p99_ms) == (100, 60, 3)


@pytest.mark.parametrize(
    ("text", "endpoint", "shown"),
    [
        ("127.0.0.1:80", ("127.0.0.1", 80), "127.0.0.1:80"),
        ("[::1]:0", ("::1", 0), "[::1]:0"),
        (":8080", ("", 8080), ":8080"),
        ("8080", ("", 8080), ":8080"),
        ("0.0.0.0:8080", ("", 8080), ":8080"),
        ("[::]:8080", ("", 8080), ":8080"),
        ("localhost:1", ("localhost", 1), "localhost:1"),
    ],
)
def test_endpoints(text: str, endpoint: tuple[str, int], shown: str) -> None:
    assert parse_endpoint(text) == endpoint
    assert str(parse_endpoint(text)) == shown


@pytest.mark.parametrize("text", ["", ":", "a:b", "a:-1", "a:65536", "::1:80", "a:²", "a:"])
def test_no_endpoints(text: str) -> None:
    with pytest.raises(ValueError, match="is not ADDR:PORT"):
        parse_endpoint(text)


def test_a_policy_file_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "policy.toml").write_text(
        "[sources.camera]\nrank = 5\nsized = false\n[sources.ultrasound]\nkbit_per_second = { floor = 1500 }\n"
    )
    main = "[policy]\nfile = 'policy.toml'\nultrasound = 'robotic'\n[policy.sources.camera]\nrank = 6\n"
    sources = load(written(tmp_path, main), {}).policy.sources
    assert (sources[Source.CAMERA].rank, sources[Source.CAMERA].sized) == (6, False)
    assert sources[Source.CAMERA].stale_ms == Config().policy.sources[Source.CAMERA].stale_ms
    assert sources[Source.ULTRASOUND].kbit_per_second.floor == 1500
    assert sources[Source.ULTRASOUND].kbit_per_second.target == 8000  # the robot's
    by_environment = load(None, {"MEDIASERVER_POLICY_FILE": str(tmp_path / "policy.toml")})
    assert by_environment.policy.sources[Source.CAMERA].rank == 5


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[sources.ultrasound]\nrang = 1", ['"policy.sources.ultrasound.rang"', "rank"]),
        ("[sources.camera]\nrank = 300", ["policy.sources", "camera", "rank", "255"]),
        ("[sources.camera]\nrank = 2", ["policy.sources", "camera", "rising order"]),
        ("[sources.camera.kbit_per_second]\nfloor = 900", ["policy.sources", "camera", "kbit_per_second", "rising"]),
        ("file = 'another.toml'", ["policy.toml", "another one"]),
        ("[sources", ["policy.toml"]),
    ],
)
def test_a_policy_file_with_a_mistake_names_it(tmp_path: Path, text: str, words: list[str]) -> None:
    (tmp_path / "policy.toml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(written(tmp_path, "[policy]\nfile = 'policy.toml'\n"), {})
    for word in ["policy.toml", *words]:
        assert word in str(caught.value)
