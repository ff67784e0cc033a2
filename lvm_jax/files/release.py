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
        found = sorted(f.name for f in datasets.iterdir()) if datasets.is_dir() else []
        raise ValueError(
            f"expected a data set in {folder}, got "
            + (f"only {', '.join(found)}" if found else f"no folder {datasets}")
        )
    return folder


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
