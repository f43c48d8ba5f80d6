"""`make token`: list, make and end a user's personal tokens, on the database.

Anyone who can write to the database may do this, without a sign-in.
"""

import asyncio
import sys
from argparse import ArgumentParser, Namespace
from io import TextIOWrapper
from typing import Any
from uuid import UUID

from pydantic import ValidationError
from pydantic_core import ErrorDetails, from_json
from sqlalchemy.ext.asyncio import AsyncEngine

from src.config import get_settings
from src.database import opened_engine
from src.framework.exceptions import CannotStart
from src.framework.sql.exceptions import DatabaseUnavailable, NotFound
from src.schemas.fields import LONGEST_USER_ID
from src.schemas.personal_token import PersonalTokenCreate, PersonalTokenListing
from src.services import personal_token_service as service
from src.services.exceptions import TooManyTokens

USAGE = "make token FOR=ada [ARGS='--name=cron --scope=read']"
ABOUT = "Make a personal token, or list or end a user's tokens."


def main() -> None:
    assert isinstance(sys.stdout, TextIOWrapper)  # noqa: S101 - for its type
    sys.stdout.reconfigure(errors="backslashreplace")
    try:
        asyncio.run(_run(_args()))
    except ValidationError as error:
        sys.exit("; ".join(map(_sentence, error.errors())))
    except (CannotStart, DatabaseUnavailable) as error:
        sys.exit(f"{error}.")
    except NotFound:
        sys.exit("The user has no token with this ID. --list lists the user's tokens.")
    except TooManyTokens:
        most = service.MOST_TOKENS
        sys.exit(f"The user has {most} tokens, and a user may have no more. End a token first.")


def _args() -> Namespace:
    parser = ArgumentParser(prog="python -m src.personal_token", usage=USAGE, description=ABOUT)
    parser.add_argument("user", help="the token's user; with make, FOR=ada")
    parser.add_argument(
        "--name", default="made by make token", help="a name that says what uses the token"
    )
    parser.add_argument("--scope", help="read or write (default: write)")
    parser.add_argument(
        "--expires-at", help="the day or time when the token ends (default: in 90 days)"
    )
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument("--list", action="store_true", help="list the user's tokens")
    instead.add_argument("--end", type=UUID, metavar="ID", help="end the token with this ID")
    instead.add_argument("--end-all", action="store_true", help="end all of the user's tokens")
    args = parser.parse_args()
    if any("\udc80" <= character <= "\udcff" for text in sys.argv for character in text):
        parser.error("the arguments must be UTF-8")
    if not 0 < len(args.user) <= LONGEST_USER_ID:
        parser.error(f"name the user, in 1 to {LONGEST_USER_ID} characters: make token FOR=ada")
    return args


async def _run(args: Namespace) -> None:
    async with opened_engine(get_settings(), asyncio.Event()) as engine:
        if args.list:
            for token in await _tokens(engine, args.user):
                used = (token["last_used_at"] or "never")[:13]
                until = token["expires_at"][:10]
                name = _shown(token["name"])
                times = f"valid until {until}, last used {used}"
                print(f"{token['id']} {token['scope']:5} {times}: {name}")
        elif args.end or args.end_all:
            tokens = await _tokens(engine, args.user) if args.end_all else [{"id": args.end}]
            for token in tokens:
                await service.end_token(engine, args.user, UUID(str(token["id"])))
            print(f"Tokens ended: {len(tokens)}")
        else:
            sent = {"name": args.name, "scope": args.scope, "expires_at": args.expires_at}
            wanted = PersonalTokenCreate.model_validate({k: v for k, v in sent.items() if v})
            _, text = await service.create_token(engine, args.user, wanted)
            print(text)


async def _tokens(engine: AsyncEngine, user_id: str) -> list[dict[str, Any]]:
    page = await service.list_tokens(engine, user_id, PersonalTokenListing())
    tokens: list[dict[str, Any]] = from_json(b"".join(page.rows.pieces()))
    return tokens


def _sentence(error: ErrorDetails) -> str:
    option = str(error["loc"][0]).replace("_", "-")
    return f"--{option}: {error['msg']}"


def _shown(name: str) -> str:
    """Escape characters that could change a terminal's other lines: users choose the names."""
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in name)


if __name__ == "__main__":
    main()
