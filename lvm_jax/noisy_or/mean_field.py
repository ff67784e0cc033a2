"""Noisy-OR networks learned with a mean field posterior of each data point.

q(h) is a product of Bernoullis with probabilities q_k of their own for every x, which
start at random and are moved in turn. With h drawn from q, of which latent k is set,

    q_k = sigmoid(mean log P(x, h | h_k = 1) - mean log P(x, h | h_k = 0))

Then theta takes a step of Adam along the gradient of log P(x, h). Source: Buhai et al.
2020, section 3 and appendix B; Saul, Jaakkola and Jordan, "Mean Field Theory for
Sigmoid Belief Networks", JAIR 1996, section 3.
"""

import functools
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import optax

from lvm_jax.noisy_or import model as noisy_or
from lvm_jax.noisy_or.model import NoisyOr
from lvm_jax.numerics import (
    LEAST_PROBABILITY,
    hashed_uniform,
    log_sigmoid,
    row_sums,
    split_float,
    unpack_bits,
)
from lvm_jax.types import Info, Learner

NUM_SWEEPS = 5  # as in the study
NUM_DRAWS = 20  # likewise
_START = 0.2, 0.8  # range of the first q, likewise
# Latents that share a table: 16 rows, so that those of a network stay in a CPU's cache.
_TOGETHER = 4
_LOOKUPS = 80  # of tables, unrolled into one loop over the observed variables
_POINTS = 20  # side by side


class MeanFieldHyperparams(NamedTuple):
    """Rate of the algorithm; the default is the study's.

    Attributes:
      theta_rate: Adam's learning rate for the network.
    """

    theta_rate: float = 0.01


class State(NamedTuple):
    """What a run of the algorithm carries from step to step."""

    params: NoisyOr
    theta_optimizer: optax.OptState


class Terms(NamedTuple):
    """What updates need of a network, computed once for all of them.

    Attributes:
      on: [G 16, D]. P(x_d = 1 | h) without noise where of the latents those in a row's
        state are on: 16 rows for each four latents.
      success: [K, D]. P(latent k turns on variable d).
      log_failure: [K, D]. log(1 - success), in nats.
      leak: [D]. P(x_d = 1) where no latent is on.
      prior_logits: [K].
    """

    on: chex.Array
    success: chex.Array
    log_failure: chex.Array
    leak: chex.Array
    prior_logits: chex.Array


def terms(params: NoisyOr) -> Terms:
    """What updates need of a network of K latents and D observed variables."""
    success = jax.nn.sigmoid(-params.failure_logits)
    num_latents, num_observed = success.shape
    spare = -num_latents % _TOGETHER
    groups = jnp.pad(success, ((0, spare), (0, 0)))
    groups = groups.reshape(-1, _TOGETHER, num_observed)
    on = jnp.zeros_like(groups[:, :1])
    for place in range(_TOGETHER):
        own = groups[:, place, None]
        # With latents of higher number on, behind those with them off.
        on = jnp.concatenate([on, _either(on, own)], axis=1)
    return Terms(
        on.reshape(-1, num_observed),
        success,
        log_sigmoid(params.failure_logits),
        jnp.maximum(jax.nn.sigmoid(-params.noise_logits), LEAST_PROBABILITY),
        params.prior_logits,
    )


def _either(p: chex.Array, q: chex.Array) -> chex.Array:
    """p + q - p q without cancellation: the probability that one or the other is."""
    return p * (1.0 - q) + q


def draw(uniforms: chex.Array, q: chex.Array) -> chex.Array:
    """[K, S] bool: draws h from q [K] by uniform numbers [K, S]."""
    return uniforms < q[:, None]


def _rows(h: chex.Array) -> chex.Array:
    """Rows of `Terms.on` [S, G] of draws h [K, S]."""
    num_latents, num_draws = h.shape
    h = jnp.pad(h, ((0, -num_latents % _TOGETHER), (0, 0))).astype(jnp.uint32)
    h = h.reshape(-1, _TOGETHER, num_draws)
    first = 2**_TOGETHER * jnp.arange(h.shape[0], dtype=jnp.uint32)[:, None]
    return (first + sum(h[:, place] << place for place in range(_TOGETHER))).T


def log_odds(of: Terms, x: chex.Array, h: chex.Array, latent: chex.Array) -> chex.Array:
    """Mean of log P(x, h) with h_k = 1 less that with h_k = 0, over draws of h.

    Where x_d = 0 the difference is log f_kd whatever the others are. Where x_d = 1 it
    is the logarithm of (1 - f_kd off) / (1 - off) = f_kd + (1 - f_kd) / (1 - off), with
    off = P(x_d = 0 | h) for h_k = 0: a table look-up for every four latents, and one
    logarithm of the product over the draws, whose exponent is added up on its own.

    Args:
      of: from `terms`.
      x: [D] zeros and ones.
      h: [K, S] draws of the latents, that of latent k of any value.
      latent: []. k.

    Returns:
      [] in nats.
    """
    num_latents, num_draws = h.shape
    rows = _rows(h & (jnp.arange(num_latents) != latent)[:, None])
    success = of.success[latent]

    def multiply(product, rows):
        on = of.leak
        for row in rows:
            on = _either(on, of.on.at[row].get(mode="promise_in_bounds"))
        ratio, exponent = split_float(1.0 - success + success / on)
        mantissa, exponents = product
        # The product of two mantissas is below 4.
        mantissa, carry = split_float(mantissa * ratio)
        return (mantissa, exponents + exponent + carry), None

    start = jnp.ones_like(of.leak), jnp.zeros(of.leak.shape, jnp.int32)
    unroll = max(1, _LOOKUPS // rows.shape[1])
    (mantissa, exponents), _ = jax.lax.scan(multiply, start, rows, unroll=unroll)
    log_ratio = jnp.log(mantissa) + jnp.log(2.0) * exponents
    where_off = of.prior_logits[latent] + (1.0 - x) @ of.log_failure[latent]
    return where_off + x @ log_ratio / num_draws


def update(
    of: Terms,
    x: chex.Array,
    q: chex.Array,
    latent: chex.Array,
    uniforms: chex.Array,
) -> chex.Array:
    """Moves the q of one latent to where its mean log-joints want it.

    Args:
      of: from `terms`.
      x: [D] zeros and ones.
      q: [K] probabilities.
      latent: []. The one that is moved.
      uniforms: [K, S] numbers in [0, 1), of which h is drawn.

    Returns:
      [K] probabilities.
    """
    odds = log_odds(of, x, draw(uniforms, q), latent)
    return jnp.where(jnp.arange(q.size) == latent, jax.nn.sigmoid(odds), q)


def _order(key: chex.PRNGKey, live: chex.Array) -> chex.Array:
    """[K] latents in random order, dead ones last."""
    return jnp.argsort(jnp.where(live > 0, hashed_uniform(key, live.shape), 2.0))


def _start(key: chex.PRNGKey, live: chex.Array, dtype: jnp.dtype) -> chex.Array:
    """[K] first q, of dead latents 0."""
    low, high = _START
    q = low + (high - low) * hashed_uniform(key, live.shape).astype(dtype)
    return jnp.where(live > 0, q, 0)


def _posterior(
    of: Terms,
    live: chex.Array,
    num_sweeps: int,
    num_draws: int,
    key: chex.PRNGKey,
    x: chex.Array,
) -> chex.Array:
    """[K] q of one sample [D]."""
    start_key, *keys = jax.random.split(key, 2 * num_sweeps + 1)
    keys = jnp.stack(keys).reshape(num_sweeps, 2)
    num_latents = live.size

    def sweep(q, keys):
        order_key, draw_key = keys
        uniforms = hashed_uniform(draw_key, (num_latents, num_latents, num_draws))

        def move(q, inputs):
            return update(of, x, q, *inputs), None

        return jax.lax.scan(move, q, (_order(order_key, live), uniforms))[0], None

    return jax.lax.scan(sweep, _start(start_key, live, of.leak.dtype), keys)[0]


def _side_by_side(function, *arrays):
    """Maps over the leading axis, a few at a time."""
    if len(arrays[0]) <= _POINTS:
        return jax.vmap(function)(*arrays)
    return jax.lax.map(lambda row: function(*row), arrays, batch_size=_POINTS)


def mean_field_posterior(
    key: chex.PRNGKey,
    params: NoisyOr,
    x: chex.Array,
    live: chex.Array | None = None,
    *,
    num_sweeps: int = NUM_SWEEPS,
    num_draws: int = NUM_DRAWS,
) -> chex.Array:
    """q(h_k = 1) of a mean field posterior of each sample, as the study has it.

    Args:
      key: random key, or one for each sample [N].
      params: NoisyOr with K latents and D observed variables.
      x: [N, D] zeros and ones.
      live: [K]. Zero for padding latents, whose q is 0; None if there are none.
      num_sweeps: updates of every latent.
      num_draws: draws of h for each update.

    Returns:
      [N, K] probabilities.
    """
    live = jnp.ones(params.prior_logits.size) if live is None else live
    keys = key if key.ndim else jax.random.split(key, x.shape[0])
    of = terms(noisy_or.mask(params, live))
    x = jnp.asarray(x, of.leak.dtype)
    return _side_by_side(
        functools.partial(_posterior, of, live, num_sweeps, num_draws), keys, x
    )


def elbo(params: NoisyOr, x: chex.Array, q: chex.Array, h: chex.Array) -> chex.Array:
    """[S, N] in nats: log P(x, h) - log q(h) of x [N, D], q [N, K], h [S, N, K]."""
    log_q = row_sums(jnp.log(jnp.where(h > 0, q, 1.0 - q)))
    return noisy_or.log_joint(params, x, h) - log_q


def negative_log_joint(params: NoisyOr, x: chex.Array, h: chex.Array) -> chex.Array:
    """Minus log P(x, h): the sum over draws, the mean over samples.

    Args:
      params: NoisyOr with K latents and D observed variables.
      x: [B, D] zeros and ones.
      h: [S, B, K] draws.
    """
    return -noisy_or.log_joint(params, x, h).sum(0).mean()


def mean_field(
    num_observed: int,
    hyperparams: MeanFieldHyperparams | None = None,
    *,
    num_sweeps: int = NUM_SWEEPS,
    num_draws: int = NUM_DRAWS,
) -> Learner:
    """Mean field for noisy-OR networks as a Learner.

    Batches and data are binary samples packed by `noisy_or.pack`: [B, ceil(D / 32)]
    words. The study's batches are of one sample; of more, each has a posterior of its
    own under the same network, which follows the mean of their gradients. Its metric
    is `elbo`, the mean evidence lower bound in nats, by `num_draws` draws of each
    sample.

    Args:
      num_observed: D.
      hyperparams: rate; the study's if None.
      num_sweeps: updates of every latent for each sample.
      num_draws: draws of h for an update, for a step, and for the bound.

    Returns:
      Learner with State as its state and NoisyOr as its parameters.
    """
    hyperparams = hyperparams or MeanFieldHyperparams()
    adam = optax.adam(hyperparams.theta_rate)

    def posterior(key, params, live, data):
        """Samples, the masked network, q of each, and draws [S, N, K] from it."""
        x = unpack_bits(data, num_observed)
        params = noisy_or.mask(params, live)
        posterior_key, draw_key = jax.random.split(key)
        q = mean_field_posterior(
            posterior_key, params, x, live, num_sweeps=num_sweeps, num_draws=num_draws
        )
        shape = live.size, x.shape[0], num_draws
        h = hashed_uniform(draw_key, shape) < q.T[..., None]
        return x, params, q, h.T.astype(jnp.float32)

    def info(params, x, q, h):
        value = elbo(params, x, q, h).mean()
        return Info(value, {"elbo": value})

    def init(key, live, train):
        unpack_bits(train[:1], num_observed)  # Refuses other samples.
        params = noisy_or.init(key, live.size, num_observed)
        return State(params, adam.init(params))

    def step(key, state, live, batch):
        x, params, q, h = posterior(key, state.params, live, batch)
        gradient = jax.grad(
            lambda params: negative_log_joint(noisy_or.mask(params, live), x, h)
        )(state.params)
        updates, theta_state = adam.update(gradient, state.theta_optimizer)
        moved = optax.apply_updates(state.params, updates)
        return State(moved, theta_state), info(params, x, q, h)

    def evaluate(key, state, live, data):
        x, params, q, h = posterior(key, state.params, live, data)
        return info(params, x, q, h)

    return Learner(init, step, evaluate, noisy_or.mask)
