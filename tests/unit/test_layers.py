"""Imports point one way: walked from the source, imports inside functions included."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import chembench

PACKAGE = Path(chembench.__file__).parent

LINES = (
    ("errors", "registry", "config", "paths", "appended", "specs"),
    ("storage", "transfer"),
    ("chem",),
    ("data",),
    ("models",),
    ("baselines",),
    ("metrics",),
    ("training",),
    ("recorded",),
    ("trial",),
    ("sweep",),
    ("tracking",),
    ("statistics",),
    ("report",),
    ("paper",),
    ("holdings", "register", "retention", "keeper"),
    ("header", "recordings", "progress", "outputs", "driver"),
    ("rerun", "damage", "upkeep", "confirming"),
    ("predictor", "handles", "opening"),
    ("api", "replay"),
    ("cli", "doctor", "forecast", "inference", "printing"),
)
"""As in docs/architecture.md: a part imports from its own line and those above."""

LINE_OF = {part: number for number, parts in enumerate(LINES) for part in parts}
HEAVY = {"torch", "transformers", "ray", "optuna", "mlflow", "rdkit", "deepchem", "pandas", "peft", "sklearn", "scipy"}


def modules() -> dict[str, Path]:
    """Dotted name -> file of every module of the package."""
    found = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def imported(tree: ast.AST, importer: str, known: dict[str, Path]) -> Iterator[str]:
    """Our own modules that ``tree`` imports, at any depth."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{importer} imports relatively; name the whole module"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                if whole in known:
                    yield whole
                elif node.module in known:
                    yield node.module


def imports_of(name: str) -> set[str]:
    return set(imported(ast.parse(MODULES[name].read_text()), name, MODULES)) - {name}


def part(module: str) -> str:
    return module.split(".")[1]


def rings(graph: dict[str, set[str]]) -> list[list[str]]:
    """Every ring that a walk along the edges runs into."""
    done: set[str] = set()
    found: list[list[str]] = []

    def walk(node: str, trail: list[str]) -> None:
        if node in trail:
            found.append([*trail[trail.index(node) :], node])
        elif node not in done:
            for after in sorted(graph.get(node, ())):
                walk(after, [*trail, node])
            done.add(node)

    for node in sorted(graph):
        walk(node, [])
    return found


def test_every_module_has_its_place_in_the_order():
    homeless = sorted(name for name in MODULES if name != "chembench" and part(name) not in LINE_OF)
    assert not homeless, "give these a line in docs/architecture.md and LINES"


@pytest.mark.parametrize("name", sorted(MODULES))
def test_imports_point_up(name):
    if name == "chembench":
        assert not {module for module in imports_of(name) if LINE_OF[part(module)] > LINE_OF["api"]}
        return
    below = {m for m in imports_of(name) if m != "chembench" and LINE_OF[part(m)] > LINE_OF[part(name)]}
    assert not below, f"{name} imports from below its line"


def test_modules_import_each_other_in_no_ring():
    graph = {name: imports_of(name) - {"chembench"} for name in MODULES if name != "chembench"}
    assert rings(graph) == []


def test_parts_of_one_line_import_each_other_in_no_ring():
    graph: dict[str, set[str]] = {}
    for name in MODULES:
        if name != "chembench":
            others = {part(m) for m in imports_of(name) if m != "chembench"} - {part(name)}
            graph.setdefault(part(name), set()).update(others)
    assert rings(graph) == []


def test_a_ring_is_seen():
    assert rings({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == [["b", "c", "b"]]
    assert rings({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


def test_an_import_inside_a_function_is_seen():
    tree = ast.parse("def f():\n    from chembench.config import Spec\n    import chembench.paths\n")
    assert set(imported(tree, "x", MODULES)) == {"chembench.config", "chembench.paths"}


@pytest.mark.parametrize("name", ["cli", "registry", "errors", "config", "paths", "specs"])
def test_the_light_modules_import_nothing_heavy_at_the_top(name):
    tree = ast.parse(MODULES[f"chembench.{name}"].read_text())
    tops = {
        (alias.name if isinstance(node, ast.Import) else node.module or "").split(".")[0]
        for node in tree.body
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    assert not tops & (HEAVY | {"numpy", "rich"})


def test_a_file_stays_under_400_lines():
    long = {name: n for name, path in MODULES.items() if (n := len(path.read_text().splitlines())) >= 400}
    assert not long
