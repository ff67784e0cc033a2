"""Sparse coding: the model, its data, and alternating minimization, which learns it.

>>> import lvm_jax
>>> from lvm_jax import sparse_coding
>>> dataset = sparse_coding.make(lvm_jax.key(0), gamma=10.0, num_samples=500)
>>> study = sparse_coding.AlternatingMinimizationHyperparams()
>>> plan = lvm_jax.Plan(levels=(24, 48), seeds=range(2), settings={"study": study})
>>> results = lvm_jax.train(
...     sparse_coding.task(dataset), plan, 2, progress=None)
>>> results.kept[48].params.dictionary.shape  # setting, seed, column, variable
(1, 2, 48, 100)
"""

from lvm_jax.sparse_coding.alternating_minimization import (
    AlternatingMinimizationHyperparams,
    MaskedHyperparams,
    alternating_minimization,
    masked,
)
from lvm_jax.sparse_coding.data import (
    NUM_OBSERVED,
    SPARSITY,
    from_truth,
    make,
    paired_columns,
)
from lvm_jax.sparse_coding.dynamics import trace
from lvm_jax.sparse_coding.model import (
    THRESHOLD,
    SparseCoding,
    decode,
    encode,
    latents,
    least_squares,
    mask,
    normalise,
    recover,
    recover_by_usage,
    sample,
    squared_error,
    usage,
)
from lvm_jax.sparse_coding.redraw import redraw
from lvm_jax.sparse_coding.release import (
    read_dataset,
    read_matrix,
    read_published_truth,
    read_truth,
)
from lvm_jax.sparse_coding.task import task, true_error

__all__ = [
    "NUM_OBSERVED",
    "SPARSITY",
    "THRESHOLD",
    "AlternatingMinimizationHyperparams",
    "MaskedHyperparams",
    "SparseCoding",
    "alternating_minimization",
    "decode",
    "encode",
    "from_truth",
    "latents",
    "least_squares",
    "make",
    "mask",
    "masked",
    "normalise",
    "paired_columns",
    "read_dataset",
    "read_matrix",
    "read_published_truth",
    "read_truth",
    "recover",
    "recover_by_usage",
    "redraw",
    "sample",
    "squared_error",
    "task",
    "trace",
    "true_error",
    "usage",
]
