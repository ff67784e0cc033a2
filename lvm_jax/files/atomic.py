"""Files that are written whole or not at all."""

import os
import pathlib
from collections.abc import Callable
from typing import Any, BinaryIO

from lvm_jax.files import regular


def partial(path: pathlib.Path) -> pathlib.Path:
    """Where a file is written before it is moved to its place."""
    return path.with_name(f".{path.name}.partial")


def replace(path: pathlib.Path, write: Callable[[BinaryIO], Any]) -> None:
    """Writes a file beside its place and moves it there: it is never half-written.

    A symbolic link in its place is replaced, and none is followed.

    Raises:
      OSError: if it cannot be written.
      ValueError: if a directory, a pipe, a socket or a device has its place.
    """
    if path.exists() and not path.is_symlink():
        regular.check(path)
    beside = partial(path)
    beside.unlink(missing_ok=True)
    try:
        with open(beside, "xb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)
