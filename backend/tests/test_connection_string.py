"""The string from any provider's console works. An error says what is wrong without a password."""

import ssl
import string
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.config import get_settings
from src.framework.sql.connection_string import parse
from tests.serving import started

HOST = "ep-cool-name-123456.eu-central-1.aws.neon.tech"
POOLER = "ep-cool-name-123456-pooler.c-2.eu-central-1.aws.neon.tech"
NEON = f"postgresql://ada:npg_s3cret@{HOST}/neondb?sslmode=require&channel_binding=require"

PLAIN = {"ssl": None, "direct_tls": False, "server_settings": {"timezone": "UTC"}}
VERIFIED = PLAIN | {"ssl": (ssl.CERT_REQUIRED, True)}


def parsed(pasted: str) -> tuple[tuple[object, ...], dict[str, Any]]:
    """Return user, password, host, port and database, and asyncpg's other arguments.

    Of `ssl`, the arguments have only the checks.
    """
    url, arguments = parse(pasted, "DATABASE_URL")
    assert url.drivername == "postgresql+asyncpg"
    assert not url.query
    context = arguments["ssl"]
    verifies = context and (context.verify_mode, context.check_hostname)
    parts = (url.username, url.password, url.host, url.port, url.database)
    return parts, arguments | {"ssl": verifies or None}


def settings(**more: str) -> dict[str, object]:
    return {"server_settings": {"timezone": "UTC", **more}}


@pytest.mark.parametrize(
    "pasted",
    [
        NEON,
        NEON.replace("postgresql:", "postgres:"),
        NEON.replace("postgresql:", "postgresql+asyncpg:"),
        NEON.replace("postgresql:", "postgres+asyncpg:"),
        NEON.replace("postgresql:", "postgresql+psycopg2:"),
        NEON.replace("postgresql:", "POSTGRESQL:"),
        f"  {NEON}\r\n",
        f"'{NEON}'",
        f'"{NEON}"',
        f"psql '{NEON}'",
        f'psql  "{NEON}" ',
        f"psql {NEON}",
        NEON.replace(f"{HOST}/", f"{HOST}:5432/"),
        NEON.replace(f"{HOST}/", f"{HOST}:/"),
        NEON.replace("channel_binding=require", "channel_binding=prefer"),
        NEON.replace("&channel_binding=require", ""),
        NEON.replace("&channel_binding=require", "&"),
        NEON.replace("sslmode=require", "sslmode=verify-ca"),
        NEON.replace("sslmode=require", "sslmode=verify-full"),
        NEON.replace("sslmode=require", "sslrootcert=system"),
        NEON.replace("sslmode=require", "ssl=require"),
        NEON.replace("sslmode=require", "ssl=true"),
        f"{NEON}&sslrootcert=",
        f"{NEON}&sslrootcert=system",
        f"{NEON}&sslnegotiation=postgres",
        f"{NEON}&gssencmode=disable",
        f"{NEON}&options=endpoint%3Dep-cool-name-123456",
        f"{NEON}&options=project%3Dep-cool-name-123456",
        f"{NEON}&pgbouncer=true",
        f"{NEON}&connect_timeout=",
        f"{NEON}&application_name=",
        f"postgresql://{HOST}/neondb?sslmode=require&user=ada&password=npg_s3cret",
        f"postgresql:///?sslmode=require&user=ada&password=npg_s3cret&host={HOST}&dbname=neondb",
        f"postgresql://%61da:npg%5Fs3cret@{HOST.replace('.', '%2E')}/neon%64b?sslmode=verif%79-ca",
    ],
)
def test_every_spelling_of_neons_string_names_the_same_database(
    pasted: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert parsed(pasted) == (("ada", "npg_s3cret", HOST, 5432, "neondb"), VERIFIED)
    assert not caplog.text


@pytest.mark.parametrize(
    ("pasted", "parts", "arguments"),
    [
        (
            f"postgresql://ada:s@{POOLER}/neondb?sslmode=require&connect_timeout=15"
            "&application_name=task+api%20%C3%A9",
            ("ada", "s", POOLER, 5432, "neondb"),
            VERIFIED | {"timeout": 15} | settings(application_name="task+api é"),
        ),
        (
            "postgresql://ada:s@db.example/tasks?sslmode=require&sslnegotiation=direct",
            ("ada", "s", "db.example", 5432, "tasks"),
            VERIFIED | {"direct_tls": True},
        ),
        (
            "postgresql://ada:s@db.example/tasks?sslmode=require"
            "&options=endpoint%3Dep-x%20-c%20search_path%3Dours",
            ("ada", "s", "db.example", 5432, "tasks"),
            VERIFIED | settings(options="-c search_path=ours"),
        ),
        (
            "postgresql://ada:s@db.example:6432/tasks?sslmode=disable",
            ("ada", "s", "db.example", 6432, "tasks"),
            PLAIN,
        ),
        (
            "postgresql://ada:s@db.example:6432/tasks?sslmode=disable&port=6433&dbname=other",
            ("ada", "s", "db.example", 6433, "other"),
            PLAIN,
        ),
        (
            "postgresql://localhost/tasks",
            ("", "", "localhost", 5432, "tasks"),
            PLAIN,
        ),
        (
            "postgresql://ada@127.0.0.1/tasks",
            ("ada", "", "127.0.0.1", 5432, "tasks"),
            PLAIN,
        ),
        (
            "postgresql://ada:s@[::1]/tasks",
            ("ada", "s", "::1", 5432, "tasks"),
            PLAIN,
        ),
        (
            "postgresql://ada:s@[2001:db8::5]:6432/tasks?sslmode=require",
            ("ada", "s", "2001:db8::5", 6432, "tasks"),
            VERIFIED,
        ),
        (
            "postgresql://ada:s@[fe80::1%25eth0]/tasks?sslmode=require",
            ("ada", "s", "fe80::1%eth0", 5432, "tasks"),
            VERIFIED,
        ),
        (
            "postgresql://ada:s@/tasks?host=2001:db8::5&sslmode=require",
            ("ada", "s", "2001:db8::5", 5432, "tasks"),
            VERIFIED,
        ),
        (
            "postgresql://postgres:@/postgres?host=/home/ada@example/c++/Data",
            ("postgres", "", "/home/ada@example/c++/Data", 5432, "postgres"),
            PLAIN,
        ),
        (
            "postgresql://%2Fvar%2Frun%2FPostgreSQL:5433/tasks?user=ada",
            ("ada", "", "/var/run/PostgreSQL", 5433, "tasks"),
            PLAIN,
        ),
        (
            "postgresql://ada%40corp:%40%3A%2F%3F%23%25%2B%26%3D%C3%BC%F0%9F%90%98@localhost/a%2Fb%3F",
            ("ada@corp", "@:/?#%+&=ü🐘", "localhost", 5432, "a/b?"),
            PLAIN,
        ),
        (
            "postgresql://ada@corp:@:#+&='\"ü🐘@localhost/a/b#c",
            ("ada@corp", "@:#+&='\"ü🐘", "localhost", 5432, "a/b#c"),
            PLAIN,
        ),
        (
            "postgresql://localhost/tasks?user=ada%40corp&password=%26%3D%2B+%25",
            ("ada@corp", "&=++%", "localhost", 5432, "tasks"),
            PLAIN,
        ),
    ],
)
def test_every_part_of_the_string_arrives(
    pasted: str,
    parts: tuple[object, ...],
    arguments: dict[str, object],
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert parsed(pasted) == (parts, arguments)
    assert not caplog.text


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1))
def test_any_name_and_password_arrive_when_escaped(text: str) -> None:
    escaped = quote(text, safe="")

    parts, _ = parsed(f"postgresql://{escaped}:{escaped}@localhost/{escaped}?sslmode=disable")

    assert parts == (text, text, "localhost", 5432, text)


UNESCAPED = st.text(st.sampled_from(string.ascii_letters + string.digits + "!\"#$&'()*+,-.:;<=>@["))


@given(UNESCAPED)
def test_a_password_without_slash_or_question_mark_needs_no_escapes(password: str) -> None:
    parts, _ = parsed(f"postgresql://ada:{password}@localhost/tasks")

    assert parts == ("ada", password, "localhost", 5432, "tasks")


@given(UNESCAPED, st.sampled_from("/?"), UNESCAPED)
def test_an_unescaped_slash_or_question_mark_in_a_password_is_refused(
    first: str, cut: str, rest: str
) -> None:
    with pytest.raises(ValueError, match=r"^must "):
        parse(f"postgresql://ada:{first}{cut}{rest}@localhost/tasks")


# No message may show a part of this password.
PASSWORD = "xyzzy", "plugh"

SHAPE = (
    "must look like postgresql://user:password@host/database?sslmode=require, "
    "with %40 for @, %2F for /, %3F for ? and %25 for % in a name, password or value"
)
NO_HOST = "must name a host, or a socket's folder as in postgresql:///database?host=/tmp"
NO_DATABASE = "must name a database, as in postgresql://user:password@host/database"
NO_MODE = (
    "must have an sslmode of disable, require, verify-ca or verify-full "
    "(allow and prefer would let the server choose)"
)


@pytest.mark.parametrize(
    ("pasted", "sentence"),
    [
        ("xyzzy", SHAPE),
        ("ada:xyzzy@host/tasks", SHAPE),
        ("//ada:xyzzy@host/tasks", SHAPE),
        ("DATABASE_URL=postgresql://ada:xyzzy@host/tasks", SHAPE),
        ("jdbc:postgresql://host/tasks?user=ada&password=xyzzy", SHAPE),
        ("host=host user=ada password=xyzzy dbname=tasks", SHAPE),
        ("psql -h host 'postgresql://ada:xyzzy@host/tasks'", SHAPE),
        ("'postgresql://ada:xyzzy@host/tasks", SHAPE),
        ("\u200bpostgresql://ada:xyzzy@host/tasks", SHAPE),
        ("postgresql://ada:xyzzy/plugh@host/tasks", SHAPE),
        ("postgresql://ada:xyzzy?plugh@host/tasks", SHAPE),
        ("postgresql://ada:1/xyzzy?plugh=1@host/tasks", SHAPE),
        ("postgresql://ada:xyzzy@plugh?a=1@host/tasks", SHAPE),
        ("postgresql://ada:xyzzy%plugh@host/tasks", SHAPE),
        ("postgresql://ada:xyzzy%2@host/tasks", SHAPE),
        ("postgresql://ada:xyzzy%ffplugh@host/tasks", SHAPE),
        ("postgresql://ada:xyzzy%00plugh@host/tasks", SHAPE),
        ("postgresql://ada:xyzzy plugh@host/tasks", SHAPE),
        ("postgresql://ada:xyzzy@host/tasks?sslmode=\nrequire", SHAPE),
        ("postgresql://ada:xyzzy@host/tasks?sslmode", SHAPE),
        ("postgresql://host/tasks?user=ada&password=xyzzy&plugh", SHAPE),
        ("postgresql://ada:xyzzy@host/tasks?sslmode=require&amp;pgbouncer=true", SHAPE),
        ("postgresql://ada:xyzzy", SHAPE),
        ("postgresql://ada:xyzzy@host:http/tasks", SHAPE),
        ("postgresql://ada:xyzzy@host:٥٤٣٢/tasks", SHAPE),
        ("postgresql://ada:xyzzy@host:-1/tasks", SHAPE),
        ("postgresql://ada:xyzzy@::1/tasks", SHAPE),
        ("postgresql://ada:xyzzy@[::1/tasks", SHAPE),
        ("mysql://ada:xyzzy@host/tasks", "must start with postgresql://"),
        ("https://ada:xyzzy@host/tasks", "must start with postgresql://"),
        ("postgresql://ada:xyzzy@host:0/tasks", "must have a port from 1 to 65535"),
        ("postgresql://ada:xyzzy@host:65536/tasks", "must have a port from 1 to 65535"),
        (f"postgresql://ada:xyzzy@host:{'9' * 5000}/tasks", "must have a port from 1 to 65535"),
        ("postgresql://ada:xyzzy@host/tasks?port=0", "must have a port from 1 to 65535"),
        ("postgresql://ada:xyzzy@/tasks", NO_HOST),
        ("postgresql:///tasks", NO_HOST),
        ("postgresql://ada:xyzzy@host", NO_DATABASE),
        ("postgresql://ada:xyzzy@host/?sslmode=require", NO_DATABASE),
        ("postgresql://ada:xyzzy@one,two/tasks", "must name one host, not several"),
        ("postgresql://ada:xyzzy@one:5432,two:5432/tasks", "must name one host, not several"),
        ("postgresql://ada:xyzzy@[::1],[::2]/tasks", "must name one host, not several"),
        ("postgresql://ada:xyzzy@/tasks?host=one,two", "must name one host, not several"),
        ("postgresql://ada:xyzzy@host/tasks?port=1,2", "must name one host, not several"),
        ("postgresql://ada:xyzzy@host/tasks?sslmode=", NO_MODE),
        ("postgresql://ada:xyzzy@host/tasks?sslmode=allow", NO_MODE),
        ("postgresql://ada:xyzzy@host/tasks?sslmode=prefer", NO_MODE),
        ("postgresql://ada:xyzzy@host/tasks?sslmode=REQUIRE", NO_MODE),
        ("postgresql://ada:xyzzy@host/tasks?ssl=false", NO_MODE),
        (
            "postgresql://ada:xyzzy@host/tasks?sslmode=require&sslmode=disable",
            "must have sslmode only once",
        ),
        (
            "postgresql://ada:xyzzy@host/tasks?sslmode=disable&ssl=true",
            "must have sslmode only once",
        ),
        (
            "postgresql://ada:xyzzy@host/tasks?channel_binding=require",
            "must have sslmode=require with channel_binding=require",
        ),
        (
            "postgresql://ada:xyzzy@host/tasks?sslmode=disable&channel_binding=require",
            "must have sslmode=require with channel_binding=require",
        ),
        (
            "postgresql://ada:xyzzy@host/tasks?gssencmode=require",
            "must have sslmode=require with gssencmode=require",
        ),
        (
            "postgresql://ada:xyzzy@host/tasks?sslnegotiation=direct",
            "must have sslmode=require with sslnegotiation=direct",
        ),
        (
            "postgresql://ada:xyzzy@host/tasks?sslmode=require&sslnegotiation=Direct",
            "must have an sslnegotiation of postgres or direct",
        ),
        *(
            (
                f"postgresql://ada:xyzzy@host/tasks?sslmode=require&{name}=plugh",
                f"must not have {name}; for TLS, the service takes only sslmode, sslrootcert and "
                "sslnegotiation, and no client certificates",
            )
            for name in ["sslcert", "sslkey", "sslcrl", "ssl_min_protocol_version", "SSLMODE"]
        ),
        (
            "postgresql://ada:xyzzy@host/tasks?sslmode=disable&sslrootcert=system",
            "must not have an sslrootcert with sslmode=disable",
        ),
        *(
            (
                f"postgresql://ada:xyzzy@host/tasks?sslmode=require&sslrootcert={file}",
                "must name a file of certificates as its sslrootcert",
            )
            for file in ["/nowhere/plugh", "/", "/dev/null", __file__]
        ),
        *(
            (
                f"postgresql://ada:xyzzy@host/tasks?connect_timeout={value}",
                "must have a connect_timeout of more than 0 and less than 3600 seconds",
            )
            for value in ["0", "-1", "3600", "inf", "nan", "plugh"]
        ),
    ],
)
def test_a_broken_string_ends_start_up_with_a_sentence_that_shows_no_password(
    pasted: str,
    sentence: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("DATABASE_URL", pasted)

    with pytest.raises(SystemExit) as ended:
        get_settings.__wrapped__()

    said = capfd.readouterr().err
    assert ended.value.code == 3
    assert said == f"The service cannot start. DATABASE_URL: {sentence}.\n"
    assert not any(part in said for part in PASSWORD)
    assert not caplog.text


@pytest.mark.parametrize(
    ("pasted", "sentence"),
    [
        ("postgresql://ada:xyzzy/plugh@host/tasks", f"DATABASE_URL: {SHAPE}"),
        ("postgresql://ada:xyzzy@plugh@127.0.0.1:1/tasks", "The database cannot be reached"),
    ],
)
def test_the_service_shows_no_password(pasted: str, sentence: str, tmp_path: Path) -> None:
    with started(tmp_path / "log", DATABASE_URL=pasted) as server:
        assert server.process.wait(timeout=30) == 3

    [said] = [line for line in server.log.splitlines() if "The service cannot start" in line]
    assert sentence in said
    assert not any(part in server.log for part in PASSWORD)
    assert "Traceback" not in server.log


def test_an_unknown_parameter_is_named_and_ignored(caplog: pytest.LogCaptureFixture) -> None:
    parts, arguments = parsed(
        "postgresql://ada:s@db.example/tasks?sslmode=require&colour=red&schema=ours"
    )

    assert sorted(caplog.messages) == [
        "DATABASE_URL: the service ignores the unknown parameter colour",
        "DATABASE_URL: the service ignores the unknown parameter schema",
    ]
    assert (parts, arguments) == (("ada", "s", "db.example", 5432, "tasks"), VERIFIED)


@pytest.mark.parametrize("host", ["db.example", "10.0.0.5", "[2001:db8::5]"])
def test_a_warning_names_an_unencrypted_connection_that_nobody_asked_for(
    host: str, caplog: pytest.LogCaptureFixture
) -> None:
    _, arguments = parsed(f"postgresql://ada:s@{host}/tasks")

    assert arguments == PLAIN
    assert caplog.messages == [
        "DATABASE_URL: the connection is not encrypted; set sslmode=require to encrypt "
        "the connection, or sslmode=disable to end this warning"
    ]


def test_the_service_logs_the_warnings(tmp_path: Path) -> None:
    pasted = "postgresql://ada:xyzzy@host.invalid/tasks?colour=mauve&connect_timeout=1"

    with started(tmp_path / "log", DATABASE_URL=pasted) as server:
        assert server.process.wait(timeout=30) == 3

    assert "DATABASE_URL: the service ignores the unknown parameter colour" in server.log
    assert "DATABASE_URL: the connection is not encrypted" in server.log
    assert "mauve" not in server.log
    assert "xyzzy" not in server.log
