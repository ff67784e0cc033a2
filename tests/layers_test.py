"""Imports point one way, and loading the library changes nothing."""

import ast
import pathlib
import subprocess
import symtable
import sys

import pytest

_PACKAGE = pathlib.Path(__file__).parents[1] / "lvm_jax"
FAMILIES = {"noisy_or", "sparse_coding", "pcfg"}

# A room may import from rooms in rows above its own.
_ORDER = [
    {"types"},
    {"numerics", "files"},
    {"recovery", "recurrence"},
    {"dynamics"},
    {*FAMILIES, "sweep"},
    {"training", "report"},
]
_RANK = {room: rank for rank, rooms in enumerate(_ORDER) for room in rooms}


def _room(path: pathlib.Path) -> str:
    return path.relative_to(_PACKAGE).with_suffix("").parts[0]


def _imported_rooms(path: pathlib.Path) -> set[str]:
    names = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module == "lvm_jax":
            names += [f"lvm_jax.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names.append(node.module)
    return {name.split(".")[1] for name in names if name.startswith("lvm_jax.")}


@pytest.mark.parametrize(
    "path",
    sorted(set(_PACKAGE.rglob("*.py")) - {_PACKAGE / "__init__.py"}),
    ids=lambda path: str(path.relative_to(_PACKAGE)),
)
def test_imports_point_down(path):
    room = _room(path)
    others = _imported_rooms(path) - {room}
    assert all(_RANK[other] < _RANK[room] for other in others)
    if room not in FAMILIES:
        assert not others & FAMILIES


def test_there_are_no_other_rooms():
    names = {_room(path) for path in _PACKAGE.rglob("*.py")} - {"__init__"}
    assert names == set(_RANK)


def _file(module: str) -> pathlib.Path | None:
    """The file of a module of the project, if there is one."""
    path = _PACKAGE.parent.joinpath(*module.split("."))
    files = (path.with_suffix(".py"), path / "__init__.py")
    return next(filter(pathlib.Path.exists, files), None)


def _names(path: pathlib.Path) -> set[str]:
    """What a module binds at its top level."""
    table = symtable.symtable(path.read_text(), str(path), "exec")
    return {
        symbol.get_name()
        for symbol in table.get_symbols()
        if symbol.is_assigned() or symbol.is_imported() or symbol.is_namespace()
    }


def _missing(path: pathlib.Path) -> list[str]:
    """Names of the project that a file imports and nothing defines."""
    return [
        f"{node.module}.{alias.name}"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom)
        and node.module.split(".")[0] in ("lvm_jax", "experiments")
        for alias in node.names
        if not _file(f"{node.module}.{alias.name}")
        and alias.name not in _names(_file(node.module))
    ]


def test_what_is_imported_is_there():
    root = _PACKAGE.parent
    rooms = ("lvm_jax", "experiments", "tests")
    paths = [path for room in rooms for path in (root / room).rglob("*.py")]
    assert not [name for path in paths for name in _missing(path)]


_CHECK = """
import pathlib
import jax
before = dict(jax.config.values)
home, pathlib.Path.home = pathlib.Path.home, None  # to be called by nobody
import lvm_jax
pathlib.Path.home = home
assert dict(jax.config.values) == before, set(jax.config.values.items()) - set(
    before.items())
assert not jax._src.xla_bridge.backends_are_initialized()
import sys
assert "matplotlib" not in sys.modules
import matplotlib
backend = matplotlib.rcParams._get_backend_or_none()
import lvm_jax.report
assert matplotlib.rcParams._get_backend_or_none() == backend
assert "matplotlib.pyplot" not in sys.modules
assert set(lvm_jax.__all__) <= set(dir(lvm_jax))
"""


def test_importing_changes_nothing():
    """Nor does it look for a home, which not every user has."""
    done = subprocess.run(
        [sys.executable, "-c", _CHECK],
        cwd=_PACKAGE.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
