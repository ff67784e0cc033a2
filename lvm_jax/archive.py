"""Trees of arrays as NumPy archives, written and read without pickle."""

import pathlib
import zipfile
import zlib
from typing import Any

import jax
import numpy as np

from lvm_jax import files


def flatten(tree: Any) -> dict[str, Any]:
    """The leaves of a tree by their paths, such as 8/model/prior."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): leaf
        for path, leaf in leaves
    }


def unflatten(leaves: dict[str, Any], like: Any) -> Any:
    """The tree that `flatten` made leaves of.

    Args:
      leaves: by path.
      like: a tree of the same structure.

    Returns:
      A tree with those leaves.

    Raises:
      ValueError: if the paths are not those of the tree.
    """
    names = list(flatten(like))
    if set(names) != set(leaves):
        raise ValueError(
            f"expected arrays {', '.join(names)}, got {', '.join(sorted(leaves))}"
        )
    treedef = jax.tree.structure(like)
    return jax.tree.unflatten(treedef, [leaves[name] for name in names])


def write(path: pathlib.Path, tree: Any) -> None:
    """Writes a tree of arrays as an archive, named as `flatten` does."""
    arrays = {name: np.asarray(leaf) for name, leaf in flatten(tree).items()}
    files.replace(path, lambda file: np.savez(file, **arrays))


def read(path: pathlib.Path) -> dict[str, np.ndarray]:
    """Reads an archive of `write`.

    Raises:
      OSError: if the file cannot be read.
      ValueError: if it is damaged, or holds anything but arrays.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            return dict(archive)
    except (zipfile.BadZipFile, zlib.error, EOFError, TypeError) as error:
        raise ValueError(f"expected an archive of arrays, got {path}") from error
