"""Imports point one way: down the application's layers, and never from a room to them."""

import ast
from pathlib import Path

import pytest

SRC = Path(__file__).resolve().parent.parent / "src"

ROOMS = {"auth", "database", "http"}

# Which parts of `src` each part may import, itself aside.
MAY_IMPORT: dict[str, set[str]] = {
    "addresses": set(),
    "auth": {"addresses"},
    "config": {"addresses", "database", "exceptions", "http"},
    "database": {"addresses", "exceptions"},
    "dependencies": {"auth", "http", "schemas", "services"},
    "development_token": {"config"},
    "exceptions": set(),
    "http": {"addresses", "exceptions"},
    "main": {
        "auth",
        "config",
        "database",
        "exceptions",
        "http",
        "migrations",
        "routers",
        "services",
    },
    "__main__": {"config", "exceptions", "http"},
    "migrations": {"database", "exceptions", "models"},
    "models": set(),
    "routers": {"auth", "database", "dependencies", "http", "schemas", "services"},
    "schemas": {"database", "http"},
    "services": {"database", "http", "models", "schemas"},
}

# Which libraries a part must not reach, even through other parts.
WEB = {"fastapi", "starlette", "uvicorn"}
SQL = {"alembic", "asyncpg", "sqlalchemy", "sqlmodel"}
MAY_NOT_REACH = {
    "database": WEB,
    "models": WEB,
    "schemas": WEB | SQL,
    "services": WEB,
}


def imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def file_of(module: str) -> Path | None:
    path = SRC.parent / module.replace(".", "/")
    files = [path.with_suffix(".py"), path / "__init__.py"]
    return next((file for file in files if file.exists()), None)


def reached(path: Path, seen: set[str]) -> set[str]:
    for name in imports(path) - seen:
        seen.add(name)
        if name.startswith("src.") and (file := file_of(name)):
            reached(file, seen)
    return seen


def files(part: str) -> list[Path]:
    found = [*(SRC / part).rglob("*.py"), *SRC.glob(f"{part}.py")]
    assert found
    return found


def imported(part: str) -> set[str]:
    """Which other parts of `src` this one imports."""
    names = {name for path in files(part) for name in imports(path) if name.startswith("src.")}
    return {name.split(".")[1] for name in names} - {part}


def test_every_part_has_its_place() -> None:
    parts = {path.stem for path in SRC.iterdir() if path.name not in {"__init__.py", "__pycache__"}}

    assert parts == set(MAY_IMPORT)
    assert set(MAY_IMPORT) >= ROOMS


@pytest.mark.parametrize("part", MAY_IMPORT)
def test_a_part_imports_only_what_is_below_it(part: str) -> None:
    assert imported(part) <= MAY_IMPORT[part]


@pytest.mark.parametrize("part", MAY_NOT_REACH)
def test_a_part_never_reaches_the_libraries_of_another(part: str) -> None:
    for path in files(part):
        libraries = {name.split(".")[0] for name in reached(path, set())}
        assert libraries.isdisjoint(MAY_NOT_REACH[part]), path


@pytest.mark.parametrize("path", files("routers"), ids=lambda path: path.stem)
def test_a_router_has_no_sql(path: Path) -> None:
    libraries = {name.split(".")[0] for name in imports(path)}

    assert libraries.isdisjoint(SQL)


@pytest.mark.parametrize("room", sorted(ROOMS))
def test_a_room_has_a_docstring(room: str) -> None:
    assert ast.get_docstring(ast.parse((SRC / room / "__init__.py").read_text()))
