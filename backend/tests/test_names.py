"""One name stands for one thing in all of `src`."""

import ast
import sys
from collections import defaultdict
from pathlib import Path

from tests.test_layers import SRC, files, part_of

# Each module may define these names, as in any FastAPI application.
OF_EACH_MODULE = {"logger", "main", "router"}


def public_names(path: Path) -> set[str]:
    """Return the functions, classes and values that a module defines for others."""
    found: set[str] = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Assign):
            found |= {each.id for each in node.targets if isinstance(each, ast.Name)}
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found.add(node.target.id)
    type_variables = {name for name in found if len(name) == 1}
    return {name for name in found if not name.startswith("_")} - OF_EACH_MODULE - type_variables


def test_a_public_name_stands_for_one_thing() -> None:
    places: dict[str, list[Path]] = defaultdict(list)
    for path in files():
        if path.parent.name == "versions":
            continue  # nobody changes a migration later
        for name in public_names(path):
            places[name].append(path)

    def is_an_endpoint_of_a_service(paths: list[Path]) -> bool:
        return sorted(map(part_of, paths)) == ["routers", "services"]

    assert {
        name: [str(path.relative_to(SRC)) for path in paths]
        for name, paths in places.items()
        if len(paths) > 1 and not is_an_endpoint_of_a_service(paths)
    } == {}


def test_no_package_has_the_name_of_a_standard_package() -> None:
    names = {path.stem for path in [*SRC.iterdir(), *(SRC / "framework").iterdir()]}

    assert names.isdisjoint(sys.stdlib_module_names)
