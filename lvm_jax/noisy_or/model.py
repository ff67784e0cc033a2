"""Noisy-OR networks as pure functions of parameters and arrays.

    h_k ~ Bernoulli(p_k),    P(x_d = 0 | h) = l_d prod_k f_kd^{h_k}

with prior p, failure f and noise (leak) l. Source: Buhai et al., "Empirical Study
of the Benefits of Overparameterization in Learning Latent Variable Models", ICML
2020, section 3.
"""

from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from lvm_jax import recovery
from lvm_jax.files.samples import check_binary
from lvm_jax.numerics import log1mexp, log_sigmoid, row_sums, uniforms
from lvm_jax.types import Recovery

# Enumeration over 2^K latent states is refused above this.
MAX_ENUMERATED = 20
_STATES_PER_CHUNK = 4096
# Stands for -inf, so that its product with the 0 of a latent that is off is 0.
_LEAST_LOGIT = -1e30

# Recovery as the study defines it: Buhai et al. 2020, section 3.1.
LEAST_PRIOR = 0.02
LARGEST_FAILURE = 0.80
MATCH_LOG_FAILURE = 1.0
DUPLICATE_L1 = 4.0


class NoisyOr(NamedTuple):
    """Parameters of a noisy-OR network; every probability is a sigmoid of a logit.

    Attributes:
      prior_logits: [K]. P(h_k = 1).
      failure_logits: [K, D]. P(latent k fails to turn on variable d).
      noise_logits: [D]. P(x_d = 0) where no latent is on.
    """

    prior_logits: chex.Array
    failure_logits: chex.Array
    noise_logits: chex.Array

    @property
    def prior(self) -> chex.Array:
        """[K]. Prior probabilities."""
        return jax.nn.sigmoid(self.prior_logits)

    @property
    def failure(self) -> chex.Array:
        """[K, D]. Failure probabilities."""
        return jax.nn.sigmoid(self.failure_logits)

    @property
    def noise(self) -> chex.Array:
        """[D]. Noise probabilities."""
        return jax.nn.sigmoid(self.noise_logits)


def from_probabilities(
    prior: chex.Array, failure: chex.Array, noise: chex.Array
) -> NoisyOr:
    """The network with the given probabilities.

    A probability of 1 becomes an infinite logit, one of 0 the logit -1e30, and a
    prior of 1 the largest number below.

    Args:
      prior: [K] probabilities.
      failure: [K, D] probabilities.
      noise: [D] probabilities.

    Returns:
      NoisyOr in float32.

    Raises:
      ValueError: if the shapes do not fit, or what is at hand is no probability.
    """
    for name, given in (("priors", prior), ("failures", failure), ("noise", noise)):
        _check_probabilities(given, name)
    prior, failure, noise = (
        jnp.asarray(p, jnp.float32) for p in (prior, failure, noise)
    )
    if failure.shape != prior.shape + noise.shape:
        raise ValueError(
            f"expected failures of shape {prior.shape + noise.shape}, as priors and "
            f"noise have, got {failure.shape}"
        )

    return _of_probabilities(prior, failure, noise)


def _check_probabilities(values: Any, name: str) -> None:
    if isinstance(values, jax.core.Tracer):
        return
    values = np.asarray(values)
    is_one = (values >= 0) & (values <= 1)
    if not is_one.all():
        raise ValueError(
            f"expected {name} from 0 to 1, got {values[~is_one].flat[0]:g}"
        )


@jax.jit
def _of_probabilities(
    prior: chex.Array, failure: chex.Array, noise: chex.Array
) -> NoisyOr:
    def logit(p):
        return jnp.maximum(jax.scipy.special.logit(p), _LEAST_LOGIT)

    prior = jnp.minimum(prior, jnp.nextafter(jnp.float32(1), jnp.float32(0)))
    return NoisyOr(logit(prior), logit(failure), logit(noise))


def init(key: chex.PRNGKey, num_latents: int, num_observed: int) -> NoisyOr:
    """Draws every logit from Uniform(2, 4), as the study does.

    Args:
      key: random key.
      num_latents: K. The first k latents of a wider draw equal a draw of k.
      num_observed: D.

    Returns:
      NoisyOr.
    """
    shapes = (num_latents,), (num_latents, num_observed), (num_observed,)
    return NoisyOr(*uniforms(key, shapes, 2.0, 4.0))


def mask(params: NoisyOr, live: chex.Array) -> NoisyOr:
    """The network in which the latents that are not live are never on.

    Args:
      params: NoisyOr with K latents.
      live: [K]. Zero for padding latents.

    Returns:
      NoisyOr of the same shapes, with the same P(x, h) as without those latents.
    """
    logits = jnp.where(live > 0, params.prior_logits, _LEAST_LOGIT)
    return params._replace(prior_logits=logits)


def sample(
    key: chex.PRNGKey, params: NoisyOr, num_samples: int
) -> tuple[chex.Array, chex.Array]:
    """Ancestral sampling.

    Args:
      key: random key.
      params: NoisyOr with K latents and D observed variables.
      num_samples: N.

    Returns:
      x: [N, D] bool, h: [N, K] bool.
    """
    latent_key, observed_key = jax.random.split(key)
    shape = (num_samples, *params.prior.shape)
    h = jax.random.bernoulli(latent_key, params.prior, shape)
    return sample_given_latents(observed_key, params, h), h


def sample_given_latents(
    key: chex.PRNGKey, params: NoisyOr, h: chex.Array
) -> chex.Array:
    """Samples of P(x | h), of latents that need not come from the prior.

    Args:
      key: random key.
      params: NoisyOr with K latents and D observed variables.
      h: [..., K] zeros and ones.

    Returns:
      x: [..., D] bool.
    """
    stay_off = jnp.exp(_log_off(params, h.astype(jnp.float32)))
    return jax.random.uniform(key, stay_off.shape) >= stay_off


def _log_off(params: NoisyOr, h: chex.Array) -> chex.Array:
    """log P(x_d = 0 | h): [..., D] from h [..., K]."""
    by_latents = jnp.matmul(h, log_sigmoid(params.failure_logits), precision="highest")
    return log_sigmoid(params.noise_logits) + by_latents


def log_likelihood_given_latents(
    params: NoisyOr, x: chex.Array, h: chex.Array
) -> chex.Array:
    """log P(x | h) in nats.

    Args:
      params: NoisyOr with K latents and D observed variables.
      x: [..., D] zeros and ones.
      h: [..., K] zeros and ones; its leading shape and that of x broadcast.

    Returns:
      [...] log-probabilities.
    """
    log_off = _log_off(params, h)
    return row_sums(jnp.where(x > 0, log1mexp(log_off), log_off))


def log_prior(params: NoisyOr, h: chex.Array) -> chex.Array:
    """log P(h) in nats.

    Args:
      params: NoisyOr with K latents.
      h: [..., K] zeros and ones.

    Returns:
      [...] log-probabilities.
    """
    logits = params.prior_logits
    return row_sums(log_sigmoid(jnp.where(h > 0, logits, -logits)))


def log_joint(params: NoisyOr, x: chex.Array, h: chex.Array) -> chex.Array:
    """log P(x, h) in nats.

    Args:
      params: NoisyOr with K latents and D observed variables.
      x: [..., D] zeros and ones.
      h: [..., K] zeros and ones; its leading shape and that of x broadcast.

    Returns:
      [...] log-probabilities.
    """
    return log_prior(params, h) + log_likelihood_given_latents(params, x, h)


def _states(start: chex.Array, num_states: int, num_latents: int) -> chex.Array:
    """[num_states, K]. The binary digits of start, start + 1, ..."""
    index = start + jnp.arange(num_states)
    return ((index[:, None] >> jnp.arange(num_latents)) & 1).astype(jnp.float32)


def _log_joint_of_states(
    params: NoisyOr, x: chex.Array, states: chex.Array
) -> chex.Array:
    """log P(x, h) for all pairs: [N, S] from x [N, D] and states [S, K].

    Two matrix products rather than one on their difference, which would cancel.
    """
    log_off = _log_off(params, states)
    x = x.astype(jnp.float32)
    given = jnp.matmul(x, log1mexp(log_off).T, precision="highest")
    given += jnp.matmul(1.0 - x, log_off.T, precision="highest")
    return given + log_prior(params, states)


def _check_enumerable(num_latents: int) -> None:
    if num_latents > MAX_ENUMERATED:
        raise ValueError(
            f"expected at most {MAX_ENUMERATED} latents to enumerate, got {num_latents}"
        )


def log_likelihood(params: NoisyOr, x: chex.Array) -> chex.Array:
    """Exact log P(x) in nats, by enumeration of the 2^K latent states.

    The states are taken 4096 at a time, each time two matrix products: memory is
    that of [N, 4096] floats whatever K is.

    Args:
      params: NoisyOr with K <= 20 latents and D observed variables.
      x: [N, D] zeros and ones.

    Returns:
      [N] log-probabilities.

    Raises:
      ValueError: if K > 20, or x is at hand and holds anything but zeros and ones.
    """
    num_latents = params.prior_logits.size
    _check_enumerable(num_latents)
    if not isinstance(x, jax.core.Tracer):
        x = check_binary(x, "x")
    chunk = min(2**num_latents, _STATES_PER_CHUNK)

    def add_chunk(index, total):
        states = _states(index * chunk, chunk, num_latents)
        log_joints = _log_joint_of_states(params, x, states)
        return jnp.logaddexp(total, jax.nn.logsumexp(log_joints, axis=1))

    start = jnp.full(x.shape[0], -jnp.inf)
    return jax.lax.fori_loop(0, 2**num_latents // chunk, add_chunk, start)


def log_posterior(params: NoisyOr, x: chex.Array) -> chex.Array:
    """Exact log P(h | x) in nats of all 2^K latent states.

    Args:
      params: NoisyOr with K <= 20 latents and D observed variables.
      x: [N, D] zeros and ones.

    Returns:
      [N, 2^K] log-probabilities; latent k of state s is on if bit k of s is.

    Raises:
      ValueError: if K > 20.
    """
    num_latents = params.prior_logits.size
    _check_enumerable(num_latents)
    log_joints = _log_joint_of_states(
        params, x, _states(jnp.int32(0), 2**num_latents, num_latents)
    )
    return jax.nn.log_softmax(log_joints, axis=1)


def recover(
    truth: NoisyOr,
    model: NoisyOr,
    live: chex.Array | None = None,
    held_out: Any = None,
) -> Recovery:
    """Which true latents a learned network has, before and after the filter.

    A pair costs max_d |log f*_kd - log f_kd|, and cannot match if either prior is
    below 0.02; it matches at a cost of at most 1. The filter keeps latents with a
    prior above 0.02 and a failure below 0.80 somewhere, and drops those within an
    L1 distance of 4 in failure probability of one with a higher prior.

    Source: Buhai et al. 2020, section 3.1.

    Args:
      truth: NoisyOr with T latents.
      model: NoisyOr with K latents.
      live: [K]. Zero for padding latents; None if there are none.
      held_out: unused; networks are compared by their parameters.

    Returns:
      Recovery.
    """
    del held_out  # Unused.
    live = jnp.ones(model.prior_logits.size) if live is None else live
    prior, failure = model.prior, model.failure
    gap = log_sigmoid(truth.failure_logits)[:, None] - log_sigmoid(model.failure_logits)
    forbidden = (truth.prior < LEAST_PRIOR)[:, None] | (prior < LEAST_PRIOR)
    cost = jnp.where(forbidden, recovery.FORBIDDEN, jnp.abs(gap).max(-1))
    return recovery.recover(
        cost,
        live=live,
        used=is_used(model),
        distance=jnp.abs(failure[:, None] - failure).sum(-1),
        weight=prior,
        match_threshold=MATCH_LOG_FAILURE,
        duplicate_threshold=DUPLICATE_L1,
    )


def is_used(model: NoisyOr) -> chex.Array:
    """[K] bool. Latents with a prior above 0.02 and a failure below 0.80 somewhere."""
    return (model.prior > LEAST_PRIOR) & (model.failure.min(-1) < LARGEST_FAILURE)


def latents(model: NoisyOr) -> dict[str, chex.Array]:
    """Each latent's `prior` [K] and `failure` [K, D], as probabilities."""
    return {"prior": model.prior, "failure": model.failure}
