"""Imports point one way."""

import ast
import pathlib

import pytest

_PACKAGE = pathlib.Path(__file__).parents[1] / "lvm_jax"

# A module may import from lines above its own.
_ORDER = [
    {"types"},
    {"numerics", "devices", "files"},
    {"archive"},
    {"recovery"},
    {"models"},
    {"data", "learners"},
    {"plan"},
    {"run"},
    {"sweep"},
    {"results", "waves"},
    {"checkpoint", "workdir", "report"},
    {"figures"},
]
_RANK = {name: rank for rank, names in enumerate(_ORDER) for name in names}


def _layer(path: pathlib.Path) -> str:
    return path.relative_to(_PACKAGE).with_suffix("").parts[0]


def _imported_layers(path: pathlib.Path) -> set[str]:
    layers = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module == "lvm_jax":
            names = [f"lvm_jax.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module]
        else:
            continue
        layers |= {n.split(".")[1] for n in names if n.startswith("lvm_jax.")}
    return layers


@pytest.mark.parametrize(
    "path", sorted(_PACKAGE.rglob("*.py")), ids=lambda p: p.relative_to(_PACKAGE)
)
def test_imports_point_down(path):
    if path == _PACKAGE / "__init__.py":
        assert not _imported_layers(path)
        return
    own = _layer(path)
    for other in _imported_layers(path):
        # Models may build on one another.
        allowed = _RANK[other] < _RANK[own] or own == other == "models"
        assert allowed, f"{path} imports {other}"


@pytest.mark.parametrize(
    "name",
    [
        "types",
        "files",
        "archive",
        "recovery",
        "plan",
        "run",
        "sweep",
        "waves",
        "results",
        "checkpoint",
        "workdir",
        "report",
        "figures",
    ],
)
def test_engine_knows_no_model(name):
    assert not _imported_layers(_PACKAGE / f"{name}.py") & {
        "models",
        "data",
        "learners",
    }
