"""Imports point one way: routers → services → models and database."""

import ast
from pathlib import Path

import pytest

SRC = Path(__file__).resolve().parent.parent / "src"

HTTP = {"fastapi", "starlette", "uvicorn"}
DATABASE = {"alembic", "asyncpg", "sqlalchemy", "sqlmodel"}

# What the modules of a layer, and whatever they import of ours, must never come to.
FORBIDDEN = {
    "models": HTTP | {"src.routers", "src.services", "src.schemas", "src.database.engine"},
    "schemas": HTTP
    | DATABASE
    | {"src.routers", "src.services", "src.models", "src.database.engine"},
    "services": HTTP | {"src.routers", "src.dependencies", "src.main"},
    "database": HTTP | {"src.routers", "src.services", "src.models", "src.schemas"},
    "routers": {"alembic", "asyncpg", "sqlalchemy", "sqlmodel"}
    | {"src.database.engine", "src.migrations", "src.models", "src.main"},
}


def imports(module: str) -> set[str]:
    path = SRC.parent / (module.replace(".", "/") + ".py")
    if not path.exists():
        return set()
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def reached(module: str, seen: set[str]) -> set[str]:
    for name in imports(module) - seen:
        seen.add(name)
        if name.startswith("src."):
            reached(name, seen)
    return seen


def modules(layer: str) -> list[str]:
    files = [SRC / f"{layer}.py", *(SRC / layer).glob("*.py")]
    return [
        ".".join(file.relative_to(SRC.parent).with_suffix("").parts)
        for file in files
        if file.exists()
    ]


@pytest.mark.parametrize("layer", FORBIDDEN)
def test_a_layer_knows_nothing_of_those_above_it(layer: str) -> None:
    assert modules(layer)
    for module in modules(layer):
        # Routers come to the database through services, but name neither it nor a model.
        found = imports(module) if layer == "routers" else reached(module, set())
        wrong = {
            name
            for name in found
            for forbidden in FORBIDDEN[layer]
            if name == forbidden or name.startswith(f"{forbidden}.")
        }
        assert not wrong, f"{module} must not import {wrong}"


def test_only_main_puts_the_layers_together() -> None:
    importers = {
        module
        for path in SRC.rglob("*.py")
        for module in [".".join(path.relative_to(SRC.parent).with_suffix("").parts)]
        if any(name.startswith("src.routers") for name in imports(module))
    }

    assert importers == {"src.main"}
