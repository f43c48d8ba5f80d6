"""`/api/{user_id}/tasks/changes`: which tasks changed, at once, after a wait, or as a stream."""

from functools import partial
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response, Security

from src.dependencies import (
    ChangeListeners,
    Engine,
    IfListMatches,
    IfNoneMatch,
    LastEventId,
    PreferWait,
    UserInPath,
    own_token,
    until_refused,
)
from src.framework.web import events
from src.framework.web.contract import headers
from src.framework.web.events import EventStream, refuse_while_files_are_scarce, until_gone
from src.framework.web.links import page_link
from src.framework.web.preferences import seconds_to_wait
from src.framework.web.problems import documented
from src.framework.web.responses import JSONArray, conditional
from src.framework.web.routing import StrictRoute
from src.routers import answers, problems
from src.schemas.changes import TOKEN, ChangesPage, Since, position_text
from src.services import feed_service

GONE = documented(
    410,
    "The service no longer has the changes since the token",
    problems.CHANGES_GONE,
    headers=headers("Link"),
)

TOO_MANY = documented(
    429,
    "The user has too many streams and long polls",
    problems.TOO_MANY_LISTENERS,
    headers=headers("Retry-After"),
)

EVENTS = f"""retry: 2345

id: {TOKEN}
data: {{"changes":[],"next":"{TOKEN}","more":false}}

"""

# The schema of an event's data. From a schema of the whole stream, generated clients would make
# `ChangesPage | string`.
OF_AN_EVENT = {"$ref": "#/components/schemas/ChangesPage"}

MOST_SECONDS = 60
"""How long a request may wait for a change."""

router = APIRouter(
    prefix="/api/{user_id:segment}/tasks/changes",
    tags=["tasks"],
    dependencies=[Security(own_token)],
    responses=answers.of_every_request("task"),
    route_class=StrictRoute,
)


@router.get(
    "",
    response_description="The newest state of each task that changed",
    summary="List what changed since a token",
    response_model=ChangesPage,
    responses=GONE
    | TOO_MANY
    | answers.or_not_modified(
        {200: {"headers": headers("Cache-Control", "ETag", "Link", "Preference-Applied")}},
        content={events.EVENT_STREAM: {"schema": OF_AN_EVENT, "example": EVENTS}},
    ),
)
async def list_changes(
    request: Request,
    engine: Engine,
    listeners: ChangeListeners,
    user_id: UserInPath,
    query: Annotated[Since, Query()],
    last_event_id: LastEventId = None,
    prefer: PreferWait = None,
    if_match: IfListMatches = None,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """List the tasks that changed since a token, in the order of their last change.

    First get the current token, then the list, then the changes since that token. Go on with the
    `next` of each answer.

    With `Accept: text/event-stream`, the answer is a stream. The data of each event is the JSON of
    an answer, and the id is the `next` of that answer. An event named `problem` ends the stream.
    """
    if events.asked_for(request):
        refuse_while_files_are_scarce()
        listening = partial(listeners.stream, user_id, last_event_id or query.since)
        return EventStream(listening, partial(until_refused, request))
    answers.refuse_etags_of_lists(if_match)
    changes = await feed_service.changes(engine, user_id, query.since, query.limit)
    seconds = 0 if request.scope["is_head"] else seconds_to_wait(prefer, MOST_SECONDS)
    if seconds and changes.position == query.since:
        refuse_while_files_are_scarce()
        is_gone = until_gone(request)
        is_refused = until_refused(request, events.CHECK_SECONDS)
        await listeners.wait(user_id, changes.position, seconds, is_gone, is_refused)
        changes = await feed_service.changes(engine, user_id, query.since, query.limit)
    fields = []
    if changes.more:
        token = position_text(changes.position)
        fields.append((b"link", page_link(request, "next", {"since": token}).encode()))
    answer = JSONArray(changes.content, fields)
    answer.raw_headers.append((b"vary", b"Accept"))
    if seconds:
        answer.raw_headers.append((b"preference-applied", b"wait=%d" % seconds))
    return conditional(answer, if_none_match)
