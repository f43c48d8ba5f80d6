"""Imports point one way: down the application's layers, and never from the framework to them."""

import ast
import gc
import re
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from src.config import Settings

SRC = Path(__file__).resolve().parent.parent / "src"
FRAMEWORK = SRC / "framework"

# The parts of `src` that each part may import, besides itself. `framework` means the modules that
# lie directly in `src/framework`, outside its packages.
MAY_IMPORT: dict[str, set[str]] = {
    "framework": set(),
    "framework.auth": {"framework"},
    "framework.sql": {"framework"},
    "framework.web": {"framework"},
    "framework.server": {"framework", "framework.web"},
    "models": set(),
    "schemas": {"framework"},
    "services": {"framework", "framework.sql", "models", "schemas"},
    "dependencies": {"framework.auth", "schemas", "services"},
    "routers": {
        "dependencies",
        "framework",
        "framework.auth",
        "framework.sql",
        "framework.web",
        "schemas",
        "services",
    },
    "migrations": {"framework", "framework.sql", "models"},
    "config": {"framework", "framework.server", "framework.sql"},
    "development_token": {"config"},
    "personal_token": {"config", "database", "framework", "framework.sql", "schemas", "services"},
    "database": {"config", "framework", "framework.sql", "migrations"},
    "main": {
        "config",
        "database",
        "framework",
        "framework.auth",
        "framework.server",
        "framework.web",
        "routers",
        "services",
        "schemas",
    },
    "__main__": {"config", "framework", "framework.server", "framework.sql"},
}

# Which libraries a part must not reach, even through other parts.
WEB = {"fastapi", "starlette", "uvicorn"}
SQL = {"alembic", "asyncpg", "sqlalchemy", "sqlmodel"}
MAY_NOT_REACH = {
    "framework.sql": WEB,
    "framework.web": SQL,
    "models": WEB,
    "schemas": WEB | SQL,
    "services": WEB,
}


@pytest.fixture(autouse=True)
def _no_search_for_garbage() -> Iterator[None]:
    """Python 3.11 cannot parse while it throws away a greenlet that another test has left."""
    gc.disable()
    yield
    gc.enable()


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


def imported_files(path: Path) -> set[Path]:
    names = {name for name in imports(path) if name.startswith("src.")}
    return {file for name in names if (file := file_of(name))} - {path}


def part_of(path: Path) -> str:
    parents = [*path.relative_to(SRC).with_suffix("").parts[:-1]]
    return ".".join(parents[:2]) if parents[:1] == ["framework"] else (parents or [path.stem])[0]


def libraries(path: Path, seen: set[Path]) -> set[str]:
    """Return the libraries that a module imports, itself or through other modules."""
    seen.add(path)
    found = {name.split(".")[0] for name in imports(path)}
    for file in imported_files(path) - seen:
        found |= libraries(file, seen)
    return found


def files(part: str | None = None) -> list[Path]:
    paths = [path for path in sorted(SRC.rglob("*.py")) if path != SRC / "__init__.py"]
    return [path for path in paths if part in {None, part_of(path)}]


def test_every_part_has_its_place() -> None:
    assert {part_of(path) for path in files()} == set(MAY_IMPORT)


@pytest.mark.parametrize("part", MAY_IMPORT)
def test_a_part_imports_only_parts_below(part: str) -> None:
    imported = {part_of(file) for path in files(part) for file in imported_files(path)}

    assert imported - {part} <= MAY_IMPORT[part]


def test_no_chain_of_imports_is_a_circle() -> None:
    TopologicalSorter(MAY_IMPORT).prepare()
    TopologicalSorter({path: imported_files(path) for path in files()}).prepare()


@pytest.mark.parametrize("part", MAY_NOT_REACH)
def test_a_part_never_imports_the_libraries_of_another_part(part: str) -> None:
    for path in files(part):
        assert libraries(path, set()).isdisjoint(MAY_NOT_REACH[part]), path


@pytest.mark.parametrize("path", files("routers"), ids=lambda path: path.stem)
def test_a_router_has_no_sql(path: Path) -> None:
    assert {name.split(".")[0] for name in imports(path)}.isdisjoint(SQL)


def test_only_main_knows_the_fast_path() -> None:
    fast = FRAMEWORK / "web/fast.py"

    assert [path for path in files() if fast in imported_files(path)] == [SRC / "main.py"]


@pytest.mark.parametrize("package", ["auth", "server", "sql", "web"])
def test_a_package_of_the_framework_has_a_docstring(package: str) -> None:
    assert ast.get_docstring(ast.parse((FRAMEWORK / package / "__init__.py").read_text()))


def test_the_framework_names_no_table_schema_or_setting() -> None:
    """Code of the framework that names a setting in a sentence gets the name as an argument."""
    settings = map(str.upper, Settings.model_fields)
    tables = ("tasks", "idempotency_keys")
    words = "|".join([*settings, *tables, "Task[A-Z][a-z]+", "Toggle"])
    named = re.compile(rf"\b({words})\b")

    found = {
        (path.name, match[0])
        for path in files()
        if path.is_relative_to(FRAMEWORK)
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        for match in named.finditer(node.value)
    }

    assert found == {("middleware.py", "tasks")}  # tasks of an event loop
