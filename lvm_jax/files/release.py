"""Folders of the study's published release."""

import pathlib

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
    found = [path.name for path in _visible(datasets) if path.is_dir()]
    if name not in found:
        raise ValueError(
            f"expected a data set in {regular.shown(folder)}, got "
            + (f"only {', '.join(found)}" if found else f"no folder {datasets}")
        )
    return folder


def files(folder: pathlib.Path) -> list[pathlib.Path]:
    """The files of a folder by name: no hidden ones, backups of editors, read-mes."""
    return [
        path
        for path in _visible(folder)
        if path.is_file() and not path.name.lower().startswith("readme")
    ]


def _visible(folder: pathlib.Path) -> list[pathlib.Path]:
    return sorted(
        path
        for path in folder.glob("*")
        if not path.name.startswith((".", "#")) and not path.name.endswith("~")
    )
