"""How a request's body is read: strictly as JSON (RFC 8259)."""

from collections.abc import Callable, Coroutine
from json import JSONDecodeError
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from pydantic_core import from_json


class JSONRequest(Request):
    async def json(self) -> Any:  # noqa: ANN401 - it is JSON
        """Refuse what Python's own parser lets through or dies of.

        That is NaN and Infinity, lone surrogates, text that is not UTF-8, and nesting without end.
        """
        try:
            return from_json(await self.body(), allow_inf_nan=False)
        except ValueError as error:
            raise JSONDecodeError(str(error), "", 0) from None


class JSONRoute(APIRoute):
    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handle_json(request: Request) -> Response:
            return await handle(JSONRequest(request.scope, request.receive))

        return handle_json
