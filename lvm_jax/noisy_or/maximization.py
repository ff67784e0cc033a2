"""The M-steps of variational EM for noisy-OR networks.

They raise the lower bound of `expectation` in the network, for weights and q of all
samples. Source: Singliar and Hauskrecht, "Noisy-OR Component Analysis and its
Application to Link Analysis", JMLR 7, 2006, section 3; the gradient step and its limits
from the authors' release of Buhai et al. 2020.
"""

from collections.abc import Callable
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from lvm_jax.noisy_or.expectation import (
    LEAST_LEAK,
    LEAST_THETA,
    LEAST_WEIGHT,
    Posterior,
    Rates,
    as_rates,
    decay,
    per_weight,
)
from lvm_jax.noisy_or.model import NoisyOr

_LARGEST = 10.0  # theta and leak
_LARGEST_LOGIT = 10.0  # of a gradient step
_LEAST_PRIOR = 1e-6  # and most, one less that
_LEAST_ON = 1e-6  # samples in which a latent has to be on

_CHUNK = 64  # samples of which sums are taken at once

_ROOT_TOLERANCE = 1e-5  # relative
_MAX_EVALUATIONS = 60  # of a slope, in a search for its root


class _Sums(NamedTuple):
    """Derivatives of the bound, summed over samples, of terms where x_nd = 1.

    Attributes:
      theta: [K, D]. By theta; that of terms where x_nd = 0 is -sum_n q_nk.
      leak: [D]. By the leak; likewise -1 for each.
      theta_theta: [K, D]. Twice by theta.
      theta_leak: [K, D]. By both.
      leak_leak: [D]. Twice by the leak.
    """

    theta: chex.Array
    leak: chex.Array
    theta_theta: chex.Array
    theta_leak: chex.Array
    leak_leak: chex.Array


def _idle(x: chex.Array, posterior: Posterior) -> chex.Array:
    """[D]. Sum of x w (1 - q), what the leak alone explains."""
    weights = jnp.einsum("nk,nkd->nd", 1 - posterior.q, posterior.weights)
    return (x * weights).sum(0)


def _sums(
    theta: chex.Array,
    leak: chex.Array,
    x: chex.Array,
    posterior: Posterior,
    idle: chex.Array,
) -> _Sums:
    """Derivatives of the bound where x is one, by theta and by leak."""
    num_samples = len(x)
    odds = 1 / jnp.expm1(leak)
    chunk = min(num_samples, _CHUNK)

    def add(index, total):
        # The last chunk is taken from the end, and what others have had is left out.
        begin = jnp.minimum(index * chunk, num_samples - chunk)
        is_new = begin + jnp.arange(chunk) >= index * chunk

        def part(leaf):
            return jax.lax.dynamic_slice_in_dim(leaf, begin, chunk)

        weights, q = part(posterior.weights), part(posterior.q)
        on_x = part(x) * is_new[:, None]
        u = per_weight(theta, weights)
        off, on, _ = decay(u)
        first = odds * off / (1 + odds * on)  # 1 / (exp(leak + u) - 1)
        own = on_x[:, None] * q[..., None] * first
        second = -own * (1 + first)
        parts = (
            own,
            weights * own,
            second / jnp.maximum(weights, LEAST_WEIGHT),
            second,
            weights * second,
        )
        return jax.tree.map(lambda whole, part: whole + part.sum(0), total, parts)

    by_theta, by_leak, twice, both, by_leak_twice = jax.lax.fori_loop(
        0, -(-num_samples // chunk), add, (jnp.zeros_like(theta),) * 5
    )
    return _Sums(
        by_theta,
        by_leak.sum(0) + odds * idle,
        twice,
        both,
        by_leak_twice.sum(0) - odds * (1 + odds) * idle,
    )


def slopes(
    rates: Rates, x: chex.Array, posterior: Posterior
) -> tuple[chex.Array, chex.Array]:
    """Derivatives of the mean bound by theta [K, D] and by leak [D], in nats.

    Args:
      rates: Rates with K latents and D observed variables.
      x: [N, D].
      posterior: of the N samples.
    """
    sums = _sums(rates.theta, rates.leak, x, posterior, _idle(x, posterior))
    by_theta = sums.theta - jnp.einsum("nk,nd->kd", posterior.q, 1 - x)
    return by_theta / len(x), (sums.leak - (1 - x).sum(0)) / len(x)


class _Search(NamedTuple):
    """A safeguarded search for roots; `info` is of the last evaluation."""

    value: chex.Array
    lower: chex.Array
    upper: chex.Array
    has_ended: chex.Array
    count: chex.Array
    info: chex.ArrayTree


def _root(
    evaluate: Callable[..., tuple[chex.Array, chex.Array, chex.ArrayTree]],
    target: chex.Array,
    start: chex.Array,
    least: float,
    stays: chex.Array,
    info: chex.ArrayTree,
) -> _Search:
    """Where falling functions reach their targets, elementwise, from `least` to 10.

    Newton's method on the reciprocal, which is a line for 1 / (leak + u); where it
    leaves the bracket, or comes from the tail, the bracket's geometric mean. A limit
    beyond which the target lies is the root.

    Args:
      evaluate: (values, info of the last evaluation) -> functions, derivatives, info.
      target: [...] of at least 0.
      start: [...]. Where to begin.
      least: the lower limit.
      stays: [...] bool. Where the start is to stay.
      info: of the type that `evaluate` returns.
    """

    def step(search):
        function, derivative, info = evaluate(search.value, search.info)
        excess = function - target
        lower = jnp.where(excess > 0, search.value, search.lower)
        upper = jnp.where(excess > 0, search.upper, search.value)
        per_target = function / jnp.maximum(target, LEAST_WEIGHT)
        move = excess * per_target / jnp.maximum(-derivative, LEAST_WEIGHT)
        value = jnp.clip(search.value + move, least, _LARGEST)
        middle = jnp.sqrt(jnp.maximum(lower, least) * jnp.minimum(upper, _LARGEST))
        is_near = (value > lower) & (value < upper) & (100 * function >= target)
        value = jnp.where(is_near, value, middle)
        has_ended = search.has_ended | ~(jnp.abs(excess) > _ROOT_TOLERANCE * target)
        has_ended |= upper - lower <= _ROOT_TOLERANCE * lower
        has_ended |= (upper <= 1.01 * least) | (lower >= _LARGEST)
        value = jnp.where(has_ended, search.value, value)
        return _Search(value, lower, upper, has_ended, search.count + 1, info)

    search = _Search(
        start,
        jnp.zeros_like(start),
        jnp.full_like(start, jnp.inf),
        stays,
        jnp.int32(0),
        info,
    )
    return jax.lax.while_loop(
        lambda search: (~search.has_ended).any() & (search.count < _MAX_EVALUATIONS),
        step,
        search,
    )


class _Profile(NamedTuple):
    """The best theta for a leak, and its derivative by the leak."""

    leak: chex.Array
    theta: chex.Array
    theta_per_leak: chex.Array


@jax.custom_batching.sequential_vmap
def maximize(rates: Rates, x: chex.Array, posterior: Posterior) -> Rates:
    """The M-step: priors, theta and leak that are best for weights and q.

    The bound is concave in theta and leak, and separable over variables. Inside of a
    search for the root of its slope by the leak, which is one number for each
    variable, each theta is the root of its own slope for that leak. A latent that is
    on in less than 1e-6 samples keeps its theta: its slopes are flat. Of several
    networks, under `jax.vmap`, each is searched for by itself.

    Args:
      rates: Rates with K latents and D observed variables, to begin with.
      x: [N, D].
      posterior: of the N samples.

    Returns:
      Rates, theta between 1e-9 and 10, leak between 1e-6 and 10.
    """
    num_on = posterior.q.sum(0)
    theta_target = jnp.einsum("nk,nd->kd", posterior.q, 1 - x)
    idle = _idle(x, posterior)
    stays = jnp.broadcast_to((num_on < _LEAST_ON)[:, None], rates.theta.shape)

    def at_leak(leak, profile):
        start = profile.theta + profile.theta_per_leak * (leak - profile.leak)
        start = jnp.where(stays, rates.theta, jnp.clip(start, LEAST_THETA, _LARGEST))

        def at_theta(theta, sums):
            del sums  # Of the evaluation before.
            sums = _sums(theta, leak, x, posterior, idle)
            return sums.theta, sums.theta_theta, sums

        search = _root(at_theta, theta_target, start, LEAST_THETA, stays, no_sums)
        theta, sums = search.value, search.info
        moves = ~stays & (theta > LEAST_THETA) & (theta < _LARGEST)
        moves &= sums.theta_theta < -LEAST_WEIGHT
        ratio = sums.theta_leak / jnp.where(moves, sums.theta_theta, 1.0)
        per_leak = jnp.where(moves, -ratio, 0.0)
        curvature = sums.leak_leak + (per_leak * sums.theta_leak).sum(0)
        return sums.leak, curvature, _Profile(leak, theta, per_leak)

    theta, leak = (jnp.clip(rate, None, _LARGEST) for rate in (rates.theta, rates.leak))
    no_sums = _Sums(*map(jnp.zeros_like, (theta, leak, theta, theta, leak)))
    search = _root(
        at_leak,
        (1 - x).sum(0),
        leak,
        LEAST_LEAK,
        jnp.zeros(leak.shape, bool),
        _Profile(leak, theta, jnp.zeros_like(theta)),
    )
    return Rates(prior_logits(num_on / len(x)), search.info.theta, search.info.leak)


def prior_logits(prior: chex.Array) -> chex.Array:
    """Logits of probabilities, which are kept from 1e-6 to one less that."""
    prior = jnp.clip(prior, _LEAST_PRIOR, 1 - _LEAST_PRIOR)
    return jnp.log(prior) - jnp.log1p(-prior)


def ascend(
    network: NoisyOr, x: chex.Array, posterior: Posterior, rate: chex.Array
) -> NoisyOr:
    """The gradient M-step: one step on the logits of failures and noise.

    The priors are the mean of q.

    Args:
      network: NoisyOr with K latents and D observed variables.
      x: [N, D].
      posterior: of the N samples.
      rate: []. Factor of the gradient of the mean bound.

    Returns:
      NoisyOr with logits from -10 to 10.
    """
    by_theta, by_leak = slopes(as_rates(network), x, posterior)

    def move(logits, by_rate):
        # The rate -log sigmoid(logit) falls by 1 - sigmoid(logit).
        new = logits - rate * jax.nn.sigmoid(-logits) * by_rate
        return jnp.clip(new, -_LARGEST_LOGIT, _LARGEST_LOGIT)

    return NoisyOr(
        prior_logits(posterior.q.mean(0)),
        move(network.failure_logits, by_theta),
        move(network.noise_logits, by_leak),
    )
