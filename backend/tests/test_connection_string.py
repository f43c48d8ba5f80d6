"""Whatever a console gives can be pasted."""

import ssl

import pytest

from src.connection_string import parse

NEON = "ep-cool-name-123456.eu-central-1.aws.neon.tech"


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+asyncpg"])
def test_a_neon_string_becomes_asyncpgs_arguments(scheme: str) -> None:
    url, arguments = parse(
        f"{scheme}://ada:p%40ss@{NEON}/neondb?sslmode=require&channel_binding=require"
    )

    assert url.drivername == "postgresql+asyncpg"
    assert (url.username, url.password, url.host, url.database) == (
        "ada",
        "p@ss",
        NEON,
        "neondb",
    )
    assert url.query == {}
    context = arguments["ssl"]
    assert isinstance(context, ssl.SSLContext)
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname


def test_without_sslmode_nothing_is_encrypted() -> None:
    assert parse("postgresql://localhost/tasks")[1]["ssl"] is False


def test_what_libpq_has_words_for_is_taken() -> None:
    url, arguments = parse(
        "postgresql://host/tasks?user=ada&password=s&connect_timeout=7&application_name=api"
    )

    assert (url.username, url.password) == ("ada", "s")
    assert arguments["timeout"] == 7
    assert arguments["server_settings"] == {"timezone": "UTC", "application_name": "api"}


def test_a_unix_socket_is_a_host() -> None:
    url, _ = parse("postgresql://postgres@/tasks?host=/var/run/postgresql")

    assert url.query == {"host": "/var/run/postgresql"}


def test_an_unknown_parameter_is_named_and_left_out(caplog: pytest.LogCaptureFixture) -> None:
    url, arguments = parse("postgresql://host/tasks?colour=red")

    assert "colour" in caplog.text
    assert "red" not in caplog.text
    assert url.query == {}
    assert arguments.keys() == {"ssl", "server_settings"}
