"""Two host devices for every test, reference data where it is at hand, and checks."""

import pathlib
from collections.abc import Callable

import jax
import pytest

from lvm_jax import results

jax.config.update("jax_num_cpu_devices", 2)

_REFERENCE = pathlib.Path(__file__).parents[2] / "shared" / "reference_data"


def _reference(name: str) -> pathlib.Path:
    path = _REFERENCE / name
    if not path.is_dir():
        pytest.skip(f"no reference data in {path}")
    return path


@pytest.fixture(scope="session")
def golden() -> pathlib.Path:
    return _reference("golden")


@pytest.fixture(scope="session")
def release_dir() -> pathlib.Path:
    return _reference("release")


def _check_same_history(path: pathlib.Path, other: pathlib.Path, num_rows: int) -> None:
    found, expected = (
        results.read_rows(directory / results.HISTORY) for directory in (path, other)
    )
    assert len(found) == len(expected) == num_rows
    for row, same in zip(found, expected, strict=True):
        for name, value in row.items():
            if isinstance(value, float):
                assert value == pytest.approx(same[name], rel=1e-3), (name, row)
            else:
                assert value == same[name], (name, row)


@pytest.fixture(scope="session")
def check_same_history() -> Callable[[pathlib.Path, pathlib.Path, int], None]:
    """Checks that two workdirs have the same rows for runs and epochs, but rounding."""
    return _check_same_history
