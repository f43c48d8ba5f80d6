"""Draw the rooms of the service and the way of a request through them: `make picture`."""

import ast
import re
from collections.abc import Iterator
from html import escape
from itertools import pairwise
from textwrap import wrap
from typing import NamedTuple, TypeAlias

from tests.serving import BACKEND
from tests.test_layers import MAY_IMPORT, ROOMS, SRC, imported

PICTURE = BACKEND.parent / "specs/001-backend-api-database/rooms.svg"

WIDTH = 900
INK, GREY, LINE = "#1f2328", "#59636e", "#8b949e"

# Of the application and of each room: what it is filled with, and its edges and words.
COLOURS = {
    "application": ("#ffffff", "#57606a"),
    "http": ("#ddf4ff", "#0550ae"),
    "database": ("#dafbe1", "#116329"),
    "auth": ("#fbefff", "#6639ba"),
}

SHARED = ("exceptions", "addresses")


class Box(NamedTuple):
    x: float
    """Its middle."""
    y: float
    """Its top."""
    width: float
    height: float

    @property
    def left(self) -> float:
        return self.x - self.width / 2

    @property
    def right(self) -> float:
        return self.x + self.width / 2

    @property
    def bottom(self) -> float:
        return self.y + self.height


Point: TypeAlias = tuple[float, float]

# The application's parts from top to bottom, each with its middle and what it is for.
ROWS: list[dict[str, tuple[float, str]]] = [
    {
        "development_token": (135, "a token to try it with"),
        "__main__": (345, "make run"),
        "main": (555, "puts it together"),
    },
    {"config": (240, "the settings"), "routers": (555, "the endpoints")},
    {
        "dependencies": (345, "what endpoints ask for"),
        "services": (555, "the statements of tasks"),
        "migrations": (765, "the tables' history"),
    },
    {"schemas": (450, "what clients send and get"), "models": (660, "the tables")},
]
PARTS = {
    part: Box(x, 104 + 102 * row, 184, 64)
    for row, parts in enumerate(ROWS)
    for part, (x, _) in parts.items()
}
WORDS = {part: words for parts in ROWS for part, (_, words) in parts.items()}
APPLICATION = Box(WIDTH / 2, 68, 852, 420)
BENEATH = {
    "http": Box(162, 530, 276, 68),
    "database": Box(450, 530, 276, 68),
    "auth": Box(738, 530, 276, 68),
    "exceptions": Box(306, 638, 276, 44),
    "addresses": Box(594, 638, 276, 44),
}


class Step(NamedTuple):
    place: str
    """A file of `src` and a function in it, or who it is outside."""
    there: str
    back: str
    aside: str = ""
    """A place that it calls before it goes on."""


# What a PUT comes through; tests/test_rooms.py follows one.
WAY = [
    Step("client", 'PUT /api/ada/tasks/… {"title": "Buy bread"}', "200, the task and its ETag"),
    Step(
        "http/protocol.py HTTPProtocol.data_received",
        "parses the request, limits size and time",
        "sends head and body in one write",
    ),
    Step(
        "http/middleware.py RequestMiddleware.__call__",
        "gives it an id, decodes its path",
        "logs it; turns any error into a problem",
    ),
    Step(
        "http/routing.py DirectRoute.handle",
        "checks the token, then path, headers and body",
        "",
        aside="auth/tokens.py Tokens.verified",
    ),
    Step("routers/tasks.py update_task", "calls the service", "adds ETag and Content-Location"),
    Step(
        "services/task_service.py update_task",
        "picks the statement, compiled once",
        "returns the task as JSON",
    ),
    Step(
        "services/rows.py changed",
        "runs it for one row of this user",
        "404 if there is none, 412 if it has changed",
    ),
    Step(
        "database/engine.py _fetch_one",
        "takes a connection, makes one round trip",
        "returns the bytes as they came",
    ),
    Step("PostgreSQL", "updates the row", "writes it as JSON"),
]
STEP_TOP, STEP_PITCH = 754, 54


def draw() -> str:
    """Draw what `src` imports today.

    Raises KeyError for a part of it that has no place here.
    """
    height = STEP_TOP + STEP_PITCH * len(WAY) + 8
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        f'width="{WIDTH}" height="{height}" font-family="system-ui, sans-serif" font-size="12">',
        "<title>The rooms of the service, and the way of a request through them</title>",
        *(_arrow_head(name, colour) for name, colour in _arrow_colours().items()),
        _rect(Box(WIDTH / 2, 0.5, WIDTH - 1, height - 1), "#f6f8fa", "#d0d7de", radius=10),
        *_rooms(),
        *_way(),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _rooms() -> Iterator[str]:
    found = {part: imported(part) for part in MAY_IMPORT}
    yield _text(24, 32, "Who imports whom", size=16, weight=600)
    said = "An arrow leads to what is imported; a label names a room that is."
    yield _text(24, 52, said, GREY)
    yield _rect(APPLICATION, "#ffffff", "#d0d7de", radius=8)
    yield _text(APPLICATION.left + 14, APPLICATION.y + 22, "the application", GREY)
    for room in _from_top(ROOMS):
        users = [part for part in found if part in PARTS and room in found[part]]
        if users:
            top = (BENEATH[room].x, APPLICATION.bottom)
            yield _arrow([top, (BENEATH[room].x, BENEATH[room].y)], room, thick=True)
    boxes = PARTS | BENEATH
    for part, box in boxes.items():
        beneath = SHARED if part in ROOMS else PARTS
        targets = sorted(found[part] & set(beneath), key=lambda name: (boxes[name].x, name))
        for place, target in enumerate(targets):
            start = box.x + 26 * (place - (len(targets) - 1) / 2)
            yield _arrow(_through_gaps((start, box.bottom), boxes[target]), "application")
    for part in MAY_IMPORT:
        yield from _part(part, boxes[part], found)


def _part(part: str, box: Box, found: dict[str, set[str]]) -> Iterator[str]:
    fill, edge = COLOURS.get(part, COLOURS["application"])
    yield _rect(box, fill, edge)
    name = part if (SRC / part).is_dir() else f"{part}.py"
    yield _text(box.x, box.y + 19, name, edge if part in ROOMS else INK, "middle", 13, 600)
    if part in ROOMS:
        lines = wrap(_first_line(part), 44)
    elif part in SHARED:
        users = [user for user in found if user in PARTS and part in found[user]]
        lines = [f"also for {', '.join(users)}"]
    else:
        lines = [WORDS[part]]
        yield from _pills(box, _from_top(found[part] & ROOMS))
    for row, line in enumerate(lines):
        yield _text(box.x, box.y + 36 + 16 * row, line, GREY, "middle", 11)


def _pills(box: Box, rooms: list[str]) -> Iterator[str]:
    """A room by name in its colour, for each that the part imports."""
    widths = [12 + 5.6 * len(room) for room in rooms]
    x = box.x - (sum(widths) + 6 * (len(rooms) - 1)) / 2
    for room, width in zip(rooms, widths, strict=True):
        fill, edge = COLOURS[room]
        yield _rect(Box(x + width / 2, box.y + 43, width, 15), fill, edge, radius=7.5, line=0.6)
        yield _text(x + width / 2, box.y + 54, room, edge, "middle", 10)
        x += width + 6


def _way() -> Iterator[str]:
    yield _text(24, STEP_TOP - 32, "The way of a request", size=16, weight=600)
    boxes = [Box(WIDTH / 2, STEP_TOP + STEP_PITCH * row, 250, 38) for row in range(len(WAY))]
    for above, below in pairwise(boxes):
        down, up = above.x - 50, above.x + 50
        yield _arrow([(down, above.bottom), (down, below.y)], "application")
        yield _arrow([(up, below.y), (up, above.bottom)], "application")
    for box, step in zip(boxes, WAY, strict=True):
        yield from _step(box, step.place)
        yield _text(box.left - 14, box.y + 23, step.there, INK, "end", 11.5)
        if step.aside:
            aside = Box(box.right + 124, box.y, 180, box.height)
            yield _across(box.right, aside.left, box.y + 13)
            yield _across(aside.left, box.right, box.y + 25)
            yield from _step(aside, step.aside)
        if step.back:
            yield _text(box.right + 14, box.y + 23, step.back, INK, size=11.5)


def _step(box: Box, place: str) -> Iterator[str]:
    file, _, function = place.partition(" ")
    fill, edge = COLOURS.get(file.split("/")[0], COLOURS["application"])
    yield _rect(box, fill, edge, radius=6 if function else 19)
    if function:
        yield _text(box.x, box.y + 16, function, INK, "middle", 12, 600)
        yield _text(box.x, box.y + 30, file, GREY, "middle", 10.5)
    else:
        yield _text(box.x, box.y + 24, file, INK, "middle", 13, 600)


def _from_top(rooms: set[str]) -> list[str]:
    return [room for room in BENEATH if room in rooms]


def _first_line(room: str) -> str:
    said = ast.get_docstring(ast.parse((SRC / room / "__init__.py").read_text())) or ""
    return re.sub(r" \([^)]*\)", "", said.partition("\n")[0])


def _through_gaps(start: Point, target: Box) -> list[Point]:
    """Go down to a box, and past the rows between by the gap that is least out of the way."""
    points = [start]
    for parts in ROWS:
        boxes = [PARTS[part] for part in parts]
        top = boxes[0].y
        if start[1] < top < target.y and target in PARTS.values():
            edges = [
                APPLICATION.left,
                *(edge for box in boxes for edge in (box.left, box.right)),
                APPLICATION.right,
            ]
            gaps = [sum(pair) / 2 for pair in zip(edges[::2], edges[1::2], strict=True)]
            x = min(gaps, key=lambda gap: abs(gap - start[0]) + abs(gap - target.x))
            points += [(x, top), (x, boxes[0].bottom)]
    x = target.x + (points[-1][0] - target.x) * 0.25
    return [*points, (min(max(x, target.left + 20), target.right - 20), target.y)]


def _arrow_colours() -> dict[str, str]:
    return {name: edge for name, (_, edge) in COLOURS.items()} | {"application": LINE}


def _arrow_head(name: str, colour: str) -> str:
    return (
        f'<marker id="{name}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" '
        f'markerUnits="userSpaceOnUse" orient="auto"><path d="M0 0L8 4L0 8z" fill="{colour}"/>'
        "</marker>"
    )


def _arrow(points: list[Point], name: str, *, thick: bool = False) -> str:
    """Draw a line that leaves and arrives upright."""
    (x, y), *rest = points
    path = f"M{x:g} {y:g}"
    for next_x, next_y in rest:
        middle = (y + next_y) / 2
        path += f"C{x:g} {middle:g} {next_x:g} {middle:g} {next_x:g} {next_y:g}"
        x, y = next_x, next_y
    width = 2.5 if thick else 1.3
    colour = _arrow_colours()[name]
    return (
        f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="{width}" '
        f'marker-end="url(#{name})"/>'
    )


def _across(start: float, end: float, y: float) -> str:
    return (
        f'<path d="M{start:g} {y:g}H{end:g}" stroke="{LINE}" stroke-width="1.3" '
        'marker-end="url(#application)"/>'
    )


def _rect(box: Box, fill: str, edge: str, *, radius: float = 6, line: float = 1) -> str:
    return (
        f'<rect x="{box.left:g}" y="{box.y:g}" width="{box.width:g}" height="{box.height:g}" '
        f'rx="{radius:g}" fill="{fill}" stroke="{edge}" stroke-width="{line:g}"/>'
    )


def _text(
    x: float,
    y: float,
    words: str,
    colour: str = INK,
    anchor: str = "start",
    size: float = 12,
    weight: int = 400,
) -> str:
    return (
        f'<text x="{x:g}" y="{y:g}" fill="{colour}" text-anchor="{anchor}" '
        f'font-size="{size:g}" font-weight="{weight}">{escape(words)}</text>'
    )
