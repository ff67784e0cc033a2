"""Read true dictionaries: the study's published ones, and a user's own.

Every error is a ValueError or an OSError with one line: the file, what was expected
and what came.
"""

import pathlib

import chex
import numpy as np

from lvm_jax.files import archive, regular, release, table
from lvm_jax.files.samples import check_finite, read_samples
from lvm_jax.sparse_coding.data import SPARSITY, from_truth
from lvm_jax.sparse_coding.model import SparseCoding
from lvm_jax.types import Dataset

_DATASETS = pathlib.PurePath("sparsecoding", "datasets")
_LENGTH_TOLERANCE = 1e-4  # of published unit vectors


def read_matrix(path: pathlib.Path) -> np.ndarray:
    """Reads a matrix: its numbers of rows and of columns in line 1, then its rows.

    Args:
      path: the file.

    Returns:
      [rows, columns] float64.

    Raises:
      OSError: if the file cannot be read.
      ValueError: if it is malformed.
    """
    path = pathlib.Path(path)
    header, *lines = table.lines(path)
    num_rows, num_columns = table.header(
        header, path, "the numbers of rows and of columns"
    )
    if len(lines) != num_rows:
        raise ValueError(
            f"{path}: expected {num_rows} rows after the first line, got {len(lines)}"
        )
    return table.rectangle(lines, path, num_columns)


def read_dataset(
    root: pathlib.Path,
    name: str,
    key: chex.PRNGKey,
    sparsity: int = SPARSITY,
    num_samples: int = 10_000,
    *,
    precision: str = "float32",
) -> Dataset:
    """Draws a data set from a true matrix of the release.

    Args:
      root: the release's folder.
      name: the data set's.
      key: random key of the samples.
      sparsity: nonzeros of each sample's code.
      num_samples: N.
      precision: "float32" or "float64", of the samples.

    Returns:
      Dataset with samples [N, D].

    Raises:
      OSError: if the file cannot be read.
      ValueError: if it is malformed, or an argument is out of range.
    """
    truth = read_published_truth(root, name)
    recipe = {"release": name, "sha256": regular.digest([_matrix(root, name)])}
    return from_truth(
        name, key, truth, sparsity, num_samples, precision=precision, recipe=recipe
    )


def _matrix(root: pathlib.Path, name: str) -> pathlib.Path:
    folder = release.dataset_folder(pathlib.Path(root) / _DATASETS, name)
    return folder / "true_params" / "matrix.txt"


def read_published_truth(root: pathlib.Path, name: str) -> SparseCoding:
    """Reads the true matrix of `sparsecoding/datasets/<name>` of the release.

    Args:
      root: the release's folder.
      name: the data set's.

    Returns:
      SparseCoding with a column of the matrix [D, T] in each of T rows, in float64.

    Raises:
      OSError: if the file cannot be read.
      ValueError: if it is malformed, or a column has not unit length.
    """
    path = _matrix(root, name)
    return _truth(read_matrix(path).T, path)


def read_truth(path: pathlib.Path | str) -> SparseCoding:
    """Reads a user's own true dictionary.

    Args:
      path: an .npz archive of `dictionary` [T, D], a true column in each row; a matrix
        [D, T] in the release's format, named matrix.txt; or a table [T, D] as
        `read_samples` reads it.

    Returns:
      SparseCoding of T columns of unit length.

    Raises:
      OSError: if the file cannot be read.
      ValueError: if it is malformed, or a column has not unit length.
    """
    path = pathlib.Path(path)
    if path.name == "matrix.txt":
        return _truth(read_matrix(path).T, path)
    if path.suffix.lower() != ".npz":
        return _truth(read_samples(path), path)
    return _truth(*archive.read_fields(path, ["dictionary"]), path)


def _truth(columns: np.ndarray, path: pathlib.Path) -> SparseCoding:
    columns = check_finite(columns, str(path))
    lengths = np.linalg.norm(columns, axis=1)
    wrong = lengths[np.abs(lengths - 1) > _LENGTH_TOLERANCE]
    if wrong.size:
        raise ValueError(
            f"{path}: expected columns of length 1, got one of length {wrong[0]:g}"
        )
    return SparseCoding(columns)
