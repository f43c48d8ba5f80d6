"""The service reads and documents its settings, and refuses a wrong value with a sentence."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from src import config
from src.config import Settings, get_settings, log_format
from tests.serving import BACKEND, DEFAULTS, SETTINGS, Server, environment

EXAMPLE = (BACKEND / ".env.example").read_text()

ORIGINS = "must be origins such as https://tasks.example,"
HOSTS = "must be hosts without scheme and port, such as 10.0.2.2"


def test_every_setting_is_in_the_example() -> None:
    named = re.findall(r"^# ?([A-Z_]+)=", EXAMPLE, re.MULTILINE)

    assert named == [name.upper() for name in Settings.model_fields]


def test_the_example_has_the_defaults() -> None:
    written = dict(re.findall(r"^# ?([A-Z_]+)=(.*)$", EXAMPLE, re.MULTILINE))

    defaults = Settings.model_construct()
    for name in [
        *("database_pool_size", "log_level", "log_format", "host", "port", "workers"),
        "keep_alive_seconds",
    ]:
        assert written[name.upper()] == str(getattr(defaults, name))
    assert written["CORS_ORIGINS"] == ",".join(defaults.cors_origins)


def test_every_setting_is_explained() -> None:
    for name in Settings.model_fields:
        assert re.search(rf"^# .+\n# {name.upper()}=", EXAMPLE, re.MULTILINE), name


def start(module: str, **settings: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", f"import {module}"],
        cwd=BACKEND,
        env=environment(**settings),
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("name", "value", "may_be"),
    [
        ("PORT", "http", "must be a valid integer"),
        ("PORT", "70000", "must be less than or equal to 65535"),
        ("WORKERS", "0", "must be greater than or equal to 1"),
        ("DATABASE_POOL_SIZE", "0", "must be greater than or equal to 1"),
        ("LOG_LEVEL", "loud", "must be 'debug', 'info', 'warning' or 'error'"),
        ("LOG_FORMAT", "xml", "must be 'text' or 'json'"),
        ("AUTH_MODE", "maybe", "must be 'open', 'jwt' or 'personal'"),
        ("AUTH_JWKS_URL", "ftp://a.example/jwks", "must look like https://"),
        ("AUTH_SECRET", "a secret of 31 bytes, not of 32", "must have at least 32 bytes"),
        ("CORS_ORIGINS", "*", ORIGINS),
        ("CORS_ORIGINS", "http://a.example,tasks.example", ORIGINS),
        ("CORS_ORIGINS", "https://*.example", ORIGINS),
        ("CORS_ORIGINS", "http://localhost:3000/app", ORIGINS),
        ("CORS_ORIGINS", "http://ada:secret@a.example", ORIGINS),
        ("CORS_ORIGINS", "http://a;http://b", ORIGINS),
        ("CORS_ORIGINS", "ftp://a.example", ORIGINS),
        ("CORS_ORIGINS", "https://*", ORIGINS),
        ("CORS_ORIGINS", "https://*.*.example.com", ORIGINS),
        ("CORS_ORIGINS", "https://app.*.example.com", ORIGINS),
        ("CORS_ORIGINS", "http*://a.example.com", ORIGINS),
        ("CORS_ORIGINS", "capacitor://*", ORIGINS),
        ("CORS_ORIGINS", "chrome-extension://", ORIGINS),
        ("CORS_ORIGINS", "javascript://a.example", ORIGINS),
        ("CORS_ORIGINS", "null", ORIGINS),
        ("CORS_ORIGINS", "(.*)://a.example", ORIGINS),
        ("CORS_ORIGINS", "https://a.example|https://b.example", ORIGINS),
        ("CORS_ORIGINS", "https://a.example\\", ORIGINS),
        ("ALLOWED_HOSTS", "http://10.0.2.2", HOSTS),
        ("ALLOWED_HOSTS", "10.0.2.2:8000", HOSTS),
        ("ALLOWED_HOSTS", "*", HOSTS),
        ("ALLOWED_HOSTS", "a.*.example", HOSTS),
        ("ROOT_PATH", "tasks-api", "must look like /tasks-api"),
        ("ROOT_PATH", "/tasks api", "must look like /tasks-api"),
        ("ROOT_PATH", "//evil.example", "must look like /tasks-api"),
        ("KEEP_ALIVE_SECONDS", "0", "must be greater than or equal to 1"),
        ("DATABASE_URL", "mysql://ada:secret@host/tasks", "must start with postgresql://"),
        ("DATABASE_URL", "ada:secret@host", "must look like postgresql://"),
        ("DATABASE_URL", "postgresql://ada:secret@host:x/tasks", "must look like postgresql://"),
        ("DATABASE_URL", "postgresql://ada:secret@host:99999/tasks", "must have a port"),
        ("DATABASE_URL", "postgresql://host/tasks?sslmode=maybe", "must have an sslmode"),
        ("DATABASE_URL", "postgresql://host/tasks?sslkey=x", "must not have sslkey"),
        (
            "DATABASE_URL",
            "postgresql://host/tasks?connect_timeout=0",
            "must have a connect_timeout",
        ),
        (
            "DATABASE_URL",
            "postgresql://host/tasks?sslmode=require&sslrootcert=/nowhere",
            "must name a file of certificates",
        ),
    ],
)
def test_a_wrong_value_stops_start_up_with_its_name_and_the_valid_values(
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    name: str,
    value: str,
    may_be: str,
) -> None:
    monkeypatch.setattr("os.environ", environment(**{name: value}))

    with pytest.raises(SystemExit, match="3"):
        get_settings.__wrapped__()

    said = capfd.readouterr().err
    assert said.startswith(f"The service cannot start. {name}: {may_be}")
    assert said.count("\n") == 1
    assert "secret" not in said


def test_variables_override_the_file_and_an_empty_variable_means_unset(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / ".env"
    said = ["DATABASE_URL=x", "port=9000", "WORKERS=2", "HOST=::1", f"AUTH_SECRET={'f' * 32}"]
    file.write_text("\n".join(said))
    environ = {"DATABASE_URL": "", "PORT": "7000", "BETTER_AUTH_SECRET": "e" * 32}
    monkeypatch.setattr("os.environ", environ)

    read = Settings(_env_file=file)

    assert (read.database_url, read.port, read.workers, read.host) == (None, 7000, 2, "::1")
    assert read.auth_secret is not None
    assert read.auth_secret.get_secret_value() == "e" * 32


def test_a_folder_without_a_leading_slash_begins_where_the_service_starts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)

    assert settings(data_dir="state/../data").data_dir == tmp_path / "data"


def test_the_file_may_have_variables_of_other_programs(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text("COMPOSE_PROJECT_NAME=tasks\nPORT=9000\n")

    assert Settings(_env_file=file).port == 9000


@pytest.mark.parametrize(
    ("said", "read"), [("json", "json"), ("JSON", "json"), ("xml", "text"), ("", "text")]
)
def test_messages_about_settings_are_text_unless_log_format_is_json(
    monkeypatch: pytest.MonkeyPatch, said: str, read: str
) -> None:
    monkeypatch.setattr("os.environ", environment(LOG_FORMAT=said))

    assert log_format() == read


def test_without_a_readable_file_messages_are_lines_of_text(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / ".env"
    file.write_bytes(b"LOG_FORMAT=json\nHOST=\xff\n")
    monkeypatch.setattr("os.environ", environment())
    monkeypatch.setitem(vars(config)["_LogFormat"].model_config, "env_file", file)

    assert log_format() == "text"


def test_start_up_stops_and_names_every_wrong_value() -> None:
    process = start("src.main", PORT="http", LOG_FORMAT="xml")

    assert process.returncode == 3
    assert process.stderr.startswith("The service cannot start. ")
    assert process.stderr.count("\n") == 1
    assert "PORT: " in process.stderr
    assert "LOG_FORMAT: " in process.stderr


def test_an_external_database_needs_an_authentication_setting() -> None:
    process = start("src.main", AUTH_MODE="", DATABASE_URL="postgresql://host/tasks")

    assert process.returncode == 3
    assert process.stderr.endswith(
        "The service cannot start. The settings do not say who may use the service: set "
        "AUTH_JWKS_URL or AUTH_SECRET for tokens of a sign-in, AUTH_MODE=personal for tokens "
        "of `make token`, or AUTH_MODE=open to let anyone act for any user.\n"
    )


DATABASE_URL = "postgresql://ada:secret@host/tasks?sslmode=require"
JWKS_URL = "https://app.example/api/auth/jwks"
LONG_SECRET = "a secret of 32 bytes, at least so"


@pytest.fixture
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in SETTINGS:
        monkeypatch.delenv(name, raising=False)


def settings(**said: Any) -> Settings:  # noqa: ANN401 - of whatever type the setting has
    return Settings(_env_file=None, **said)


@pytest.mark.usefixtures("nothing_set")
@pytest.mark.parametrize(
    ("said", "mode"),
    [
        ({}, None),
        ({"host": "0.0.0.0"}, None),
        ({"host": "0.0.0.0", "auth_mode": "open"}, "open"),
        ({"database_url": DATABASE_URL, "auth_mode": "OPEN"}, "open"),
        ({"database_url": DATABASE_URL, "auth_jwks_url": JWKS_URL}, "jwt"),
        ({"database_url": DATABASE_URL, "auth_secret": LONG_SECRET}, "jwt"),
        ({"database_url": DATABASE_URL, "better_auth_secret": LONG_SECRET}, "jwt"),
        ({"auth_jwks_url": JWKS_URL}, "jwt"),
        ({"auth_secret": LONG_SECRET, "host": "0.0.0.0"}, "jwt"),
        ({"auth_secret": "\N{LATIN SMALL LETTER E WITH ACUTE}" * 16}, "jwt"),
    ],
)
def test_open_mode_needs_an_explicit_setting_except_in_make_run(
    said: dict[str, str], mode: str | None
) -> None:
    assert settings(**said).auth_mode == mode


NO_KEY = "The settings do not say who may use the service: set AUTH_JWKS_URL or AUTH_SECRET"
NOT_ONE_KEY = "Set exactly one of AUTH_JWKS_URL and AUTH_SECRET"


@pytest.mark.usefixtures("nothing_set")
@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ({"database_url": DATABASE_URL}, NO_KEY),
        ({"database_url": DATABASE_URL, "auth_issuer": "https://app.example"}, NO_KEY),
        ({"database_url": DATABASE_URL, "host": "::1"}, NO_KEY),
        ({"auth_mode": "jwt"}, NOT_ONE_KEY),
        ({"auth_mode": "jwt", "database_url": DATABASE_URL}, NOT_ONE_KEY),
        ({"auth_jwks_url": JWKS_URL, "auth_secret": LONG_SECRET}, NOT_ONE_KEY),
        ({"auth_jwks_url": JWKS_URL, "better_auth_secret": LONG_SECRET}, NOT_ONE_KEY),
    ],
)
def test_tokens_are_checked_with_one_key_source(said: dict[str, str], sentence: str) -> None:
    with pytest.raises(ValidationError, match=sentence):
        settings(**said)


@pytest.mark.usefixtures("nothing_set")
def test_better_auths_own_secret_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BETTER_AUTH_SECRET", LONG_SECRET)

    assert settings().auth_secret == SecretStr(LONG_SECRET)


@pytest.mark.usefixtures("nothing_set")
def test_no_setting_shows_a_password_or_secret() -> None:
    said = settings(database_url=DATABASE_URL, auth_secret=LONG_SECRET)

    assert "secret@" not in repr(said)
    assert LONG_SECRET not in repr(said)
    assert "secret@" not in str(said.model_dump())
    assert LONG_SECRET not in str(said.model_dump())


@pytest.mark.parametrize(
    ("said", "sent"),
    [
        (" HTTPS://A.example:443/ ,", ["https://a.example"]),
        (
            "http://localhost:3000,http://a.example:80",
            ["http://localhost:3000", "http://a.example"],
        ),
        ("https://b\u00fccher.example", ["https://xn--bcher-kva.example"]),
        ("http://[::1]:5173/", ["http://[::1]:5173"]),
        ("capacitor://localhost", ["capacitor://localhost"]),
        ("ionic://localhost/", ["ionic://localhost"]),
        ("tauri://localhost", ["tauri://localhost"]),
        ("app://-,app://obsidian.md,file://", ["app://-", "app://obsidian.md", "file://"]),
        ("chrome-extension://abcdefghijklmnop", ["chrome-extension://abcdefghijklmnop"]),
        ("moz-extension://0198c0de-5d3e-7c1f", ["moz-extension://0198c0de-5d3e-7c1f"]),
        ("safari-web-extension://0198C0DE-5D3E", ["safari-web-extension://0198C0DE-5D3E"]),
    ],
)
def test_origins_have_the_form_that_browsers_send(said: str, sent: list[str]) -> None:
    settings = Settings.model_validate({"cors_origins": said})

    assert list(settings.cors_origins) == sent
    for origin in sent:
        assert re.fullmatch(settings.cors_pattern, origin)


@pytest.mark.parametrize(
    ("origin", "is_in"),
    [
        ("https://tasks-git-main-team.vercel.app", True),
        ("https://x-team.vercel.app", True),
        ("https://-team.vercel.app", False),
        ("https://evil.example/-team.vercel.app", False),
        ("https://a.b-team.vercel.app", False),
        ("https://x-team.vercel.app.evil.example", False),
        ("https://x-teamXvercel.app", False),
        ("http://x-team.vercel.app", False),
        ("https://x-team.vercel.app:8443", False),
        ("https://x-team.vercel.app\n", False),
        ("https://xx-team.vercel.app", True),
        ("https://tasks.example", True),
        ("https://tasksXexample", False),
    ],
)
def test_a_pattern_of_origins_is_anchored(origin: str, is_in: bool) -> None:
    said = "https://*-team.vercel.app,https://tasks.example"
    pattern = Settings.model_validate({"cors_origins": said}).cors_pattern

    assert bool(re.fullmatch(pattern, origin)) is is_in


@pytest.mark.usefixtures("nothing_set")
@pytest.mark.parametrize(
    ("origin", "is_in"),
    [
        ("http://localhost:5173", True),
        ("http://127.0.0.1:3000", True),
        ("https://localhost", True),
        ("http://[::1]:8080", True),
        ("http://app.localhost:4200", True),
        ("capacitor://localhost", True),
        ("http://localhost.evil.example", False),
        ("http://127.0.0.1.evil.example", False),
        ("http://evil-localhost", False),
        ("http://192.168.0.2:3000", False),
        ("http://localhost:3000.evil.example", False),
        ("null", False),
    ],
)
def test_only_the_service_on_the_embedded_database_admits_any_loopback_origin(
    origin: str, is_in: bool
) -> None:
    def lets_in(**said: Any) -> bool:  # noqa: ANN401 - as in `settings`
        return bool(re.fullmatch(settings(**said).cors_pattern, origin))

    assert lets_in() is is_in
    assert not lets_in(database_url=DATABASE_URL, auth_mode="open")
    assert not lets_in(cors_origins="https://tasks.example")


def test_most_tests_use_a_service_without_settings(
    server: Server, pytestconfig: pytest.Config
) -> None:
    if pytestconfig.getoption("pooler"):
        pytest.skip("a pooler has to be named")
    assert {name for name in DEFAULTS if server.environment[name]} == {"DATA_DIR", "PORT"}


def test_no_token_is_signed_without_a_secret() -> None:
    process = subprocess.run(
        [sys.executable, "-m", "src.development_token", "ada"],
        cwd=BACKEND,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )

    assert process.returncode == 1
    assert process.stdout == ""
    assert process.stderr == (
        "Set AUTH_SECRET to sign the token; with a key server, only the issuer can sign tokens\n"
    )


def test_the_readme_has_each_setting_with_its_default_and_limits() -> None:
    readme = (BACKEND / "README.md").read_text()
    rows = re.findall(r"^\| `([A-Z_]+)` \| (?:`(\S+)` )?\| (.+) \|$", readme, re.M)

    assert [name for name, _, _ in rows] == [name.upper() for name in Settings.model_fields]
    for name, default, words in rows:
        field = Settings.model_fields[name.lower()]
        value = field.default if field.default is not None else ""
        if isinstance(value, tuple):
            value = ",".join(value)
        shown = value.name if isinstance(value, Path) else str(value)
        assert default == shown, name
        limits = [
            str(getattr(each, end))
            for each in field.metadata
            for end in ("ge", "le")
            if hasattr(each, end)
        ]
        assert len(limits) == (2 if field.annotation in {int, float} else 0), name
        assert " to ".join(limits) in words, name
