"""Noisy-OR networks: the model, its data, and algorithms that learn it.

>>> import lvm_jax
>>> from lvm_jax import noisy_or
>>> dataset = noisy_or.make("IMG", lvm_jax.key(0), num_samples=1000)
>>> int(noisy_or.recover(dataset.truth, dataset.truth).num_recovered)
8
>>> plan = lvm_jax.Plan(levels=(8, 16), seeds=range(2), settings=dict(
...     published=noisy_or.STUDY["IMG"], slow=noisy_or.NvilHyperparams(0.01, 0.01)))
>>> results = lvm_jax.train(noisy_or.task(dataset), plan, 2, progress=None)
>>> results.history["num_recovered"].shape  # level, setting, seed, record
(2, 2, 2, 2)
"""

from lvm_jax.noisy_or.data import NAMES, connected, img, make, random_unif, unif
from lvm_jax.noisy_or.dynamics import trace
from lvm_jax.noisy_or.em import (
    EmHyperparams,
    GradientEmHyperparams,
    em,
    gradient_em,
)
from lvm_jax.noisy_or.local_expectation import local_expectation
from lvm_jax.noisy_or.mean_field import (
    MeanFieldHyperparams,
    mean_field,
    mean_field_posterior,
)
from lvm_jax.noisy_or.model import (
    NoisyOr,
    from_probabilities,
    latents,
    log_joint,
    log_likelihood,
    log_likelihood_given_latents,
    log_posterior,
    log_prior,
    mask,
    recover,
    sample,
    sample_given_latents,
)
from lvm_jax.noisy_or.nvil import NvilHyperparams, nvil
from lvm_jax.noisy_or.recognition import Recognition, importance_weighted_bound
from lvm_jax.noisy_or.redraw import redraw, refit
from lvm_jax.noisy_or.release import (
    read_dataset,
    read_model,
    read_params,
    read_truth,
)
from lvm_jax.noisy_or.revision import grown, pruned, renewed
from lvm_jax.noisy_or.rloo import rloo
from lvm_jax.noisy_or.study import (
    STUDY,
    STUDY_EM,
    STUDY_GRADIENT_EM,
    STUDY_LARGE_BATCH,
    STUDY_MEAN_FIELD,
    Training,
    published,
    training,
)
from lvm_jax.noisy_or.task import (
    held_out_log_likelihood,
    pack,
    task,
    true_log_likelihood,
)
from lvm_jax.noisy_or.variational import Params, VariationalHyperparams, network

__all__ = [
    "NAMES",
    "STUDY",
    "STUDY_EM",
    "STUDY_GRADIENT_EM",
    "STUDY_LARGE_BATCH",
    "STUDY_MEAN_FIELD",
    "EmHyperparams",
    "GradientEmHyperparams",
    "MeanFieldHyperparams",
    "NoisyOr",
    "NvilHyperparams",
    "Params",
    "Recognition",
    "Training",
    "VariationalHyperparams",
    "connected",
    "em",
    "from_probabilities",
    "gradient_em",
    "grown",
    "held_out_log_likelihood",
    "img",
    "importance_weighted_bound",
    "latents",
    "local_expectation",
    "log_joint",
    "log_likelihood",
    "log_likelihood_given_latents",
    "log_posterior",
    "log_prior",
    "make",
    "mask",
    "mean_field",
    "mean_field_posterior",
    "network",
    "nvil",
    "pack",
    "pruned",
    "published",
    "random_unif",
    "read_dataset",
    "read_model",
    "read_params",
    "read_truth",
    "recover",
    "redraw",
    "refit",
    "renewed",
    "rloo",
    "sample",
    "sample_given_latents",
    "task",
    "trace",
    "training",
    "true_log_likelihood",
    "unif",
]
