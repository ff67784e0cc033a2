"""Read the study's published noisy-OR networks: truths, samples, learned models.

Every error is a ValueError or an OSError with one line: the file, what was expected
and what came.
"""

import pathlib
import re
import warnings

import numpy as np

from lvm_jax.files import archive, regular, release, table
from lvm_jax.noisy_or.model import NoisyOr, from_probabilities
from lvm_jax.types import Dataset

_DATASETS = pathlib.PurePath("noisyor", "datasets")
_TEXTS = ("noise.txt", "priors.txt", "weights.txt")
_PROBABILITIES = ("prior", "failure", "noise")


def _probabilities(values: np.ndarray, path: pathlib.Path) -> np.ndarray:
    if not values.size:
        raise ValueError(f"{path}: expected probabilities, at least one, got none")
    if values.min() < 0 or values.max() > 1:
        raise ValueError(
            f"{path}: expected probabilities from 0 to 1, "
            f"got values from {values.min():g} to {values.max():g}"
        )
    return values


def _vector(path: pathlib.Path) -> np.ndarray:
    """A length, then as many probabilities."""
    numbers = np.concatenate(table.lines(path))
    if numbers[0] != numbers.size - 1:
        raise ValueError(
            f"{path}: expected {numbers[0]:g} numbers after the first, "
            f"got {numbers.size - 1}"
        )
    return _probabilities(numbers[1:], path)


def read_params(folder: pathlib.Path) -> NoisyOr:
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
    failure = _probabilities(table.rectangle(table.lines(path), path, noise.size), path)
    if failure.shape[0] != prior.size:
        raise ValueError(
            f"{path}: expected {prior.size} rows, as priors.txt has, "
            f"got {failure.shape[0]}"
        )
    return from_probabilities(prior, failure, noise)


def read_model(path: pathlib.Path) -> NoisyOr:
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
    header, *lines = table.lines(path)
    num_latents, num_observed = table.header(
        header, path, "the numbers of latent and of observed variables"
    )
    if len(lines) != num_latents + 2:
        raise ValueError(
            f"{path}: expected {num_latents + 2} lines after the first, "
            f"got {len(lines)}"
        )
    prior = table.rectangle(lines[:1], path, num_latents)[0]
    rest = table.rectangle(lines[1:], path, num_observed)
    return from_probabilities(
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
    lines = table.lines(path)
    samples = table.rectangle(lines, path, lines[0].size)
    wrong = samples[(samples != 0) & (samples != 1)]
    if wrong.size:
        raise ValueError(f"{path}: expected samples of 0 and 1, got {wrong[0]:g}")
    return samples == 1


def read_dataset(root: pathlib.Path, name: str) -> Dataset:
    """Reads `noisyor/datasets/<name>` of the release: its truth and its samples.

    Args:
      root: the release's folder.
      name: the data set's.

    Returns:
      Dataset with samples [N, D] bool and a NoisyOr as truth. Where several sample
      files are published, the first by name; hidden ones, editors' backups and
      read-mes are none. Warns of one that has fewer samples than its name says.

    Raises:
      OSError: if a file or folder cannot be read.
      ValueError: if one is malformed or does not fit the others.
    """
    folder = release.dataset_folder(pathlib.Path(root) / _DATASETS, name)
    truth = read_params(folder / "true_params")
    files = release.files(folder / "samples")
    if not files:
        raise ValueError(f"{folder / 'samples'}: expected a file of samples, got none")
    samples = read_binary_samples(files[0])
    num_observed = truth.noise_logits.size
    if samples.shape[1] != num_observed:
        raise ValueError(
            f"{files[0]}: expected {num_observed} variables, as noise.txt has, "
            f"got {samples.shape[1]}"
        )
    _warn_of_missing(files[0], len(samples))
    texts = [folder / "true_params" / text for text in _TEXTS]
    recipe = {"release": name, "sha256": regular.digest([*texts, files[0]])}
    return Dataset(name, samples, truth, recipe)


def _warn_of_missing(path: pathlib.Path, number: int) -> None:
    """Warns of a file that has fewer samples than its name says."""
    named = re.search(r"_n(\d+)", path.name)
    if named and int(named[1]) > number:
        warnings.warn(
            f"{path}: expected {named[1]} samples by its name, got {number}",
            stacklevel=3,
        )


def read_truth(path: pathlib.Path | str) -> NoisyOr:
    """Reads a user's own true network.

    Args:
      path: an .npz archive of probabilities prior [K], failure [K, D] and noise [D]; a
        learned model of the release, .dat; or a folder such as its `true_params`.

    Returns:
      NoisyOr with K latents and D observed variables.

    Raises:
      OSError: if the file cannot be read.
      ValueError: if it is malformed.
    """
    path = pathlib.Path(path)
    if path.is_dir():
        return read_params(path)
    if path.suffix.lower() == ".dat":
        return read_model(path)
    if path.suffix.lower() != ".npz":
        raise ValueError(
            f"expected a true network as .npz, .dat or a folder, got {path}"
        )
    values = archive.read_fields(path, _PROBABILITIES)
    prior, failure, noise = (_probabilities(value, path) for value in values)
    if prior.ndim != 1 or noise.ndim != 1 or failure.shape != prior.shape + noise.shape:
        raise ValueError(
            f"{path}: expected arrays [K], [K, D] and [D], got shapes "
            f"{', '.join(str(value.shape) for value in values)}"
        )
    return from_probabilities(prior, failure, noise)
