"""What dictionaries are learned from, and how they are judged."""

import functools
from collections.abc import Callable

import jax
import numpy as np

from lvm_jax import numerics
from lvm_jax.files.samples import check_finite
from lvm_jax.sparse_coding import model as sparse_coding
from lvm_jax.sparse_coding.alternating_minimization import alternating_minimization
from lvm_jax.sparse_coding.redraw import redraw
from lvm_jax.types import Dataset, Learner, Task


def task(
    dataset: Dataset,
    learner: Callable[..., Learner] = alternating_minimization,
    *,
    num_held_out: int | None = None,
    split_seed: int = 0,
) -> Task:
    """The task of learning dictionaries from a data set.

    Args:
      dataset: samples [N, D] of finite numbers, and a SparseCoding if the truth is
        known.
      learner: (D, hyperparameters) -> Learner, such as `alternating_minimization`.
      num_held_out: samples that are held out of training; 1000 or a tenth if None.
      split_seed: which ones, of samples that are no data set of the study. Of one that
        is, they are the first ones, as in the study.

    Returns:
      Task.

    Raises:
      ValueError: if samples are not finite, there are too few of them, or the truth has
        other observed variables.
    """
    samples = check_finite(dataset.samples, dataset.name)
    num_observed = samples.shape[1]
    truth = dataset.truth
    if truth is not None and truth.dictionary.shape[1] != num_observed:
        raise ValueError(
            f"expected a truth of {num_observed} variables, as {dataset.name} has, got "
            f"{truth.dictionary.shape[1]}"
        )
    parts = numerics.split(
        samples, num_held_out, None if dataset.recipe else split_seed
    )
    return Task.of(
        dataset,
        *parts,
        learner=functools.partial(learner, num_observed),
        recover=sparse_coding.recover,
        latents=sparse_coding.latents,
        redraw=redraw,
    )


def true_error(task: Task, precision: str = "float32") -> float | None:
    """Squared error of the held-out samples under the true dictionary, mean of them.

    The encoder's threshold shrinks every code, so that it is not zero. None if there is
    no truth.
    """
    if task.truth is None:
        return None

    def error(truth, x):
        h = sparse_coding.encode(truth, x)
        return sparse_coding.squared_error(truth, x, h).mean()

    with numerics.settings(precision):
        arrays = jax.tree.map(
            functools.partial(np.asarray, dtype=precision), (task.truth, task.held_out)
        )
        return float(jax.jit(error)(*arrays))
