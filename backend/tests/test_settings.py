"""Settings are read, documented, and refused with a sentence."""

import re
import subprocess
import sys

import pytest

from src.config import Settings
from tests.serving import BACKEND, environment

EXAMPLE = (BACKEND / ".env.example").read_text()


def test_every_setting_stands_in_the_example() -> None:
    named = re.findall(r"^# ?([A-Z_]+)=", EXAMPLE, re.MULTILINE)

    assert named == [name.upper() for name in Settings.model_fields]


def test_the_example_has_the_defaults() -> None:
    written = dict(re.findall(r"^# ?([A-Z_]+)=(.*)$", EXAMPLE, re.MULTILINE))

    defaults = Settings.model_construct()
    for name in ["database_pool_size", "log_level", "log_format", "host", "port", "workers"]:
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
        ("PORT", "http", "Input should be a valid integer"),
        ("PORT", "70000", "Input should be less than or equal to 65535"),
        ("WORKERS", "0", "Input should be greater than or equal to 1"),
        ("DATABASE_POOL_SIZE", "0", "Input should be greater than or equal to 1"),
        ("LOG_LEVEL", "loud", "Input should be 'debug', 'info', 'warning' or 'error'"),
        ("LOG_FORMAT", "xml", "Input should be 'text' or 'json'"),
        ("CORS_ORIGINS", "*", "name each origin"),
        ("CORS_ORIGINS", "http://a.example,tasks.example", "name each origin"),
        ("CORS_ORIGINS", "https://*.example", "name each origin"),
        ("CORS_ORIGINS", "http://localhost:3000/app", "name each origin"),
        ("CORS_ORIGINS", "http://ada:secret@a.example", "name each origin"),
        ("CORS_ORIGINS", "http://a;http://b", "name each origin"),
        ("CORS_ORIGINS", "ftp://a.example", "name each origin"),
        ("DATABASE_URL", "mysql://ada:secret@host/tasks", "must start with postgresql://"),
        ("DATABASE_URL", "ada:secret@host", "must look like postgresql://"),
        ("DATABASE_URL", "postgresql://ada:secret@host:x/tasks", "must look like postgresql://"),
        ("DATABASE_URL", "postgresql://ada:secret@host:99999/tasks", "must have a port"),
        ("DATABASE_URL", "postgresql://host/tasks?sslmode=maybe", "must have an sslmode"),
        ("DATABASE_URL", "postgresql://host/tasks?sslkey=x", "must not name a client certificate"),
        (
            "DATABASE_URL",
            "postgresql://host/tasks?connect_timeout=0",
            "must have a connect_timeout",
        ),
        (
            "DATABASE_URL",
            "postgresql://host/tasks?sslmode=require&sslrootcert=/nowhere",
            "must have a file of certificates",
        ),
    ],
)
def test_a_wrong_value_stops_start_up_with_its_name_and_what_it_may_be(
    name: str, value: str, may_be: str
) -> None:
    process = start("src.main", **{name: value})

    assert process.returncode == 3
    assert process.stderr.startswith(f"Cannot start. {name}: {may_be}")
    assert process.stderr.count("\n") == 1
    assert "secret" not in process.stderr


def test_every_wrong_value_is_named() -> None:
    process = start("src.main", PORT="http", LOG_FORMAT="xml")

    assert "PORT: " in process.stderr
    assert "LOG_FORMAT: " in process.stderr


def test_no_setting_shows_the_password() -> None:
    settings = Settings.model_validate({"database_url": "postgresql://ada:secret@host/tasks"})

    assert "secret" not in repr(settings)
    assert "secret" not in str(settings.model_dump())


def test_origins_are_as_browsers_send_them() -> None:
    settings = Settings.model_validate(
        {"cors_origins": " HTTPS://A.example:443/ ,http://localhost:3000,"}
    )

    assert settings.cors_origins == ("https://a.example", "http://localhost:3000")
