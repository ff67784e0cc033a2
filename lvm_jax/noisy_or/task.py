"""What noisy-OR networks are learned from, and how they are judged."""

import functools
from collections.abc import Callable
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np

from lvm_jax.files.samples import check_binary
from lvm_jax.noisy_or import model as noisy_or
from lvm_jax.noisy_or import recognition
from lvm_jax.noisy_or.mean_field import mean_field_posterior
from lvm_jax.noisy_or.model import NoisyOr
from lvm_jax.noisy_or.nvil import nvil
from lvm_jax.noisy_or.redraw import redraw
from lvm_jax.noisy_or.variational import Params, network
from lvm_jax.numerics import halves, key, pack_bits, settings, split, unpack_bits
from lvm_jax.types import Dataset, Learner, Task

# Of a proposal without a recognition network: keeps the variance of weights finite.
_LEAST_PROPOSAL = 1e-3


@settings()
def pack(samples: chex.Array, name: str = "samples") -> np.ndarray:
    """Packs zeros and ones [N, D] into [N, ceil(D / 32)] words, as learners take them.

    Raises:
      ValueError: if there is anything else among them; it names the place.
    """
    return np.asarray(pack_bits(check_binary(samples, name)))


def task(
    dataset: Dataset,
    learner: Callable[..., Learner] = nvil,
    *,
    num_held_out: int | None = None,
    split_seed: int = 0,
) -> Task:
    """The task of learning networks from a data set.

    Args:
      dataset: samples [N, D] of zeros and ones, and a NoisyOr if the truth is known.
      learner: (D, hyperparameters) -> Learner, such as `nvil`, or a partial
        application of it.
      num_held_out: samples that are held out of training, of which the first half
        chooses the models that runs keep and the second is reported on; 1000 or a
        tenth if None.
      split_seed: which ones, of samples that are no data set of the study. Of one that
        is, they are the first ones, as in the study.

    Returns:
      Task with packed samples.

    Raises:
      ValueError: if samples are not zeros and ones, there are too few of them, or the
        truth has other observed variables.
    """
    samples = check_binary(dataset.samples, dataset.name)
    num_observed = samples.shape[1]
    truth = dataset.truth
    if truth is not None and truth.noise_logits.size != num_observed:
        raise ValueError(
            f"expected a truth of {num_observed} variables, as {dataset.name} has, got "
            f"{truth.noise_logits.size}"
        )
    apart, train = split(samples, num_held_out, None if dataset.recipe else split_seed)
    validation, held_out = halves(apart)
    return Task.of(
        dataset,
        pack(held_out),
        pack(train),
        validation=pack(validation),
        learner=functools.partial(learner, num_observed),
        recover=noisy_or.recover,
        latents=noisy_or.latents,
        redraw=redraw,
    )


def _proposal(params: Params | NoisyOr, x: chex.Array, live: chex.Array) -> chex.Array:
    """[N, K] logits of a distribution of h given x that is near the posterior."""
    if isinstance(params, Params):
        return recognition.logits(recognition.mask(params.q, live), x)
    q = mean_field_posterior(key(1), params, x, live)
    q = jnp.clip(q, _LEAST_PROPOSAL, 1 - _LEAST_PROPOSAL)
    return jnp.where(live > 0, jax.scipy.special.logit(q), -jnp.inf)


def held_out_log_likelihood(
    task: Task,
) -> Callable[[Params | NoisyOr, Any], dict[str, Any]]:
    """A measure of learned networks: mean log P(x) of the held-out samples, in nats.

    Args:
      task: from `task`.

    Returns:
      (params, live) -> `held_out_log_likelihood`, exact for at most 20 latents, else a
      lower bound by 1000 weighted draws (Burda et al. 2016) from the recognition
      network, or where there is none from a mean field posterior; and
      `held_out_log_likelihood_is_bound`, which of the two.
    """

    def measure(params, live):
        model = noisy_or.mask(network(params), live)
        num_latents, num_observed = model.failure_logits.shape
        x = unpack_bits(jnp.asarray(task.held_out), num_observed)
        is_bound = num_latents > noisy_or.MAX_ENUMERATED
        if is_bound:
            values = recognition.importance_weighted_bound(
                key(0),
                _proposal(params, x, live),
                functools.partial(noisy_or.log_joint, model, x),
            )
        else:
            values = noisy_or.log_likelihood(model, x)
        return {
            "held_out_log_likelihood": values.mean(),
            "held_out_log_likelihood_is_bound": jnp.bool_(is_bound),
        }

    return measure


@settings()
def true_log_likelihood(task: Task) -> float | None:
    """Mean log P(x) of the held-out samples under the truth, in nats.

    None if there is no truth, or one of more than 20 latents.
    """
    if task.truth is None or task.truth.prior_logits.size > noisy_or.MAX_ENUMERATED:
        return None
    return float(_mean_log_likelihood(task.truth, task.held_out))


@jax.jit
def _mean_log_likelihood(truth: noisy_or.NoisyOr, words: chex.Array) -> chex.Array:
    x = unpack_bits(words, truth.noise_logits.size)
    return noisy_or.log_likelihood(truth, x).mean()
