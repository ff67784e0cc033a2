"""Files that are written whole or not at all."""

import os
import pathlib
from collections.abc import Callable
from typing import Any, BinaryIO


def partial(path: pathlib.Path) -> pathlib.Path:
    """Where a file is written before it is moved to its place."""
    return path.with_name(f".{path.name}.partial")


def replace(path: pathlib.Path, write: Callable[[BinaryIO], Any]) -> None:
    """Writes a file beside its place and moves it there: it is never half-written."""
    beside = partial(path)
    try:
        with open(beside, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)
