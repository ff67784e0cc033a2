"""Folders of the study's published release."""

import hashlib
import pathlib
from collections.abc import Iterable

from lvm_jax.files import regular


def dataset_folder(datasets: pathlib.Path, name: str) -> pathlib.Path:
    """The folder of a data set.

    Args:
      datasets: the release's folder of all of them.
      name: the data set's.

    Raises:
      ValueError: if there is none of that name.
    """
    folder = datasets / name
    if not folder.is_dir():
        found = [path.name for path in _visible(datasets) if path.is_dir()]
        raise ValueError(
            f"expected a data set in {regular.shown(folder)}, got "
            + (f"only {', '.join(found)}" if found else f"no folder {datasets}")
        )
    return folder


def files(folder: pathlib.Path) -> list[pathlib.Path]:
    """The files of a folder by name, without hidden ones and backups of editors."""
    return [path for path in _visible(folder) if path.is_file()]


def _visible(folder: pathlib.Path) -> list[pathlib.Path]:
    return sorted(
        path
        for path in folder.glob("*")
        if not path.name.startswith((".", "#")) and not path.name.endswith("~")
    )


def digest(paths: Iterable[pathlib.Path]) -> str:
    """SHA-256 of what is in files, one after the other.

    Raises:
      OSError: if one cannot be read.
      ValueError: if one is no regular file.
    """
    sha = hashlib.sha256()
    for path in paths:
        with regular.open_file(path) as file:
            hashlib.file_digest(file, lambda: sha)
    return sha.hexdigest()
