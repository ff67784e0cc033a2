"""Read the study's published release: true parameters, samples, learned models.

Every error is a ValueError or an OSError with one line: the file, what was expected
and what came.
"""

import pathlib

import jax.numpy as jnp
import numpy as np

from lvm_jax.models import noisy_or
from lvm_jax.models.noisy_or import NoisyOr
from lvm_jax.models.sparse_coding import SparseCoding
from lvm_jax.types import Dataset

_NOISY_OR_DATASETS = pathlib.PurePath("noisyor", "datasets")
_SPARSE_CODING_DATASETS = pathlib.PurePath("sparsecoding", "datasets")
_LENGTH_TOLERANCE = 1e-4  # of published unit vectors


def _numbers(text: str, path: pathlib.Path, line: int) -> np.ndarray:
    try:
        values = np.array(text.split(), dtype=np.float64)
    except ValueError as error:
        raise ValueError(
            f"{path}: expected numbers in line {line}, got {text.strip()[:40]!r}"
        ) from error
    if not np.isfinite(values).all():
        raise ValueError(f"{path}: expected finite numbers in line {line}, got NaN")
    return values


def _lines(path: pathlib.Path) -> list[np.ndarray]:
    """The numbers in each line that is not blank."""
    try:
        text = path.read_text(encoding="ascii")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: expected a text file, got binary data") from error
    lines = [
        _numbers(line, path, number)
        for number, line in enumerate(text.splitlines(), 1)
        if line.strip()
    ]
    if not lines:
        raise ValueError(f"{path}: expected numbers, got an empty file")
    return lines


def _table(lines: list[np.ndarray], path: pathlib.Path, width: int) -> np.ndarray:
    for number, line in enumerate(lines, 1):
        if line.size != width:
            raise ValueError(
                f"{path}: expected {width} numbers in each row, "
                f"got {line.size} in row {number}"
            )
    return np.stack(lines)


def _probabilities(values: np.ndarray, path: pathlib.Path) -> np.ndarray:
    if values.min() < 0 or values.max() > 1:
        raise ValueError(
            f"{path}: expected probabilities from 0 to 1, "
            f"got values from {values.min():g} to {values.max():g}"
        )
    return values


def _header(header: np.ndarray, path: pathlib.Path, what: str) -> list[int]:
    """The two sizes in a file's first line."""
    if header.size != 2 or (header != header.astype(int)).any() or header.min() < 1:
        raise ValueError(f"{path}: expected {what} in line 1, got {header.tolist()}")
    return header.astype(int).tolist()


def _dataset_folder(datasets: pathlib.Path, name: str) -> pathlib.Path:
    folder = datasets / name
    if not folder.is_dir():
        found = sorted(f.name for f in datasets.iterdir()) if datasets.is_dir() else []
        raise ValueError(
            f"expected a data set in {folder}, got "
            + (f"only {', '.join(found)}" if found else f"no folder {datasets}")
        )
    return folder


def _vector(path: pathlib.Path) -> np.ndarray:
    """A length, then as many probabilities."""
    numbers = np.concatenate(_lines(path))
    if numbers[0] != numbers.size - 1:
        raise ValueError(
            f"{path}: expected {numbers[0]:g} numbers after the first, "
            f"got {numbers.size - 1}"
        )
    return _probabilities(numbers[1:], path)


def read_noisy_or_params(folder: pathlib.Path) -> NoisyOr:
    """Reads `priors.txt`, `weights.txt` (failures) and `noise.txt`.

    Args:
      folder: a data set's `true_params`.

    Returns:
      NoisyOr with K latents and D observed variables.

    Raises:
      OSError: if a file cannot be read.
      ValueError: if one is malformed or does not fit the others.
    """
    folder = pathlib.Path(folder)
    prior, noise = _vector(folder / "priors.txt"), _vector(folder / "noise.txt")
    path = folder / "weights.txt"
    failure = _probabilities(_table(_lines(path), path, noise.size), path)
    if failure.shape[0] != prior.size:
        raise ValueError(
            f"{path}: expected {prior.size} rows, as priors.txt has, "
            f"got {failure.shape[0]}"
        )
    return noisy_or.from_probabilities(prior, failure, noise)


def read_noisy_or_model(path: pathlib.Path) -> NoisyOr:
    """Reads a learned model, `model_epoch*.dat`.

    The first line is K and D, the second the K priors, then K lines of D failures,
    then the D noise probabilities.

    Args:
      path: the file.

    Returns:
      NoisyOr with K latents and D observed variables.

    Raises:
      OSError: if the file cannot be read.
      ValueError: if it is malformed.
    """
    path = pathlib.Path(path)
    header, *lines = _lines(path)
    num_latents, num_observed = _header(
        header, path, "the numbers of latent and of observed variables"
    )
    if len(lines) != num_latents + 2:
        raise ValueError(
            f"{path}: expected {num_latents + 2} lines after the first, "
            f"got {len(lines)}"
        )
    prior = _table(lines[:1], path, num_latents)[0]
    rest = _table(lines[1:], path, num_observed)
    return noisy_or.from_probabilities(
        _probabilities(prior, path),
        _probabilities(rest[:-1], path),
        _probabilities(rest[-1], path),
    )


def read_binary_samples(path: pathlib.Path) -> np.ndarray:
    """Reads samples, a line of zeros and ones each.

    Args:
      path: the file.

    Returns:
      [N, D] bool.

    Raises:
      OSError: if the file cannot be read.
      ValueError: if a line is ragged or holds anything but 0 and 1.
    """
    path = pathlib.Path(path)
    lines = _lines(path)
    samples = _table(lines, path, lines[0].size)
    wrong = samples[(samples != 0) & (samples != 1)]
    if wrong.size:
        raise ValueError(f"{path}: expected samples of 0 and 1, got {wrong[0]:g}")
    return samples == 1


def read_noisy_or_dataset(root: pathlib.Path, name: str) -> Dataset:
    """Reads `noisyor/datasets/<name>` of the release: its truth and its samples.

    Args:
      root: the release's folder.
      name: the data set's.

    Returns:
      Dataset with samples [N, D] bool and a NoisyOr as truth. Where several sample
      files are published, the first by name.

    Raises:
      OSError: if a file or folder cannot be read.
      ValueError: if one is malformed or does not fit the others.
    """
    folder = _dataset_folder(pathlib.Path(root) / _NOISY_OR_DATASETS, name)
    truth = read_noisy_or_params(folder / "true_params")
    files = sorted(f for f in (folder / "samples").glob("*") if f.is_file())
    if not files:
        raise ValueError(f"{folder / 'samples'}: expected a file of samples, got none")
    samples = read_binary_samples(files[0])
    num_observed = truth.noise_logits.size
    if samples.shape[1] != num_observed:
        raise ValueError(
            f"{files[0]}: expected {num_observed} variables, as noise.txt has, "
            f"got {samples.shape[1]}"
        )
    return Dataset(name, samples, truth)


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
    header, *lines = _lines(path)
    num_rows, num_columns = _header(header, path, "the numbers of rows and of columns")
    if len(lines) != num_rows:
        raise ValueError(
            f"{path}: expected {num_rows} rows after the first line, got {len(lines)}"
        )
    return _table(lines, path, num_columns)


def read_sparse_coding_truth(root: pathlib.Path, name: str) -> SparseCoding:
    """Reads the true matrix of `sparsecoding/datasets/<name>` of the release.

    Args:
      root: the release's folder.
      name: the data set's.

    Returns:
      SparseCoding with a column of the matrix [D, T] in each of T rows, in the
      default precision.

    Raises:
      OSError: if the file cannot be read.
      ValueError: if it is malformed, or a column has not unit length.
    """
    folder = _dataset_folder(pathlib.Path(root) / _SPARSE_CODING_DATASETS, name)
    path = folder / "true_params" / "matrix.txt"
    matrix = read_matrix(path)
    lengths = np.linalg.norm(matrix, axis=0)
    wrong = lengths[np.abs(lengths - 1) > _LENGTH_TOLERANCE]
    if wrong.size:
        raise ValueError(
            f"{path}: expected columns of length 1, got one of length {wrong[0]:g}"
        )
    return SparseCoding(jnp.asarray(matrix.T, float))
