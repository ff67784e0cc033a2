"""The E-step of variational EM for noisy-OR networks.

With theta_kd = -log f_kd, leak_d = -log l_d and g(u) = log P(x_d = 1) at a rate
leak + u less that at the leak alone, log(1 - exp(-leak - u)) - log(1 - exp(-leak)),
Jensen's inequality for weights w_nkd >= 0 that sum to one over k gives

    log P(x_nd = 1 | h) >= log(1 - exp(-leak_d)) + sum_k h_k w_nkd g(theta_kd / w_nkd)

and with it a lower bound on log P(x_n), in which q(h | x_n) factorises. The E-step
raises it in w and q of each sample alone, from w = 1/K on. Source: Singliar and
Hauskrecht, "Noisy-OR Component Analysis and its Application to Link Analysis", JMLR 7,
2006, section 3.
"""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from lvm_jax.noisy_or.model import NoisyOr
from lvm_jax.numerics import log_sigmoid

MAX_ITERATIONS = 500  # of a sample

# As good as none: a latent that fails to turn on a variable but once in 10**9, a
# variable that is on by itself once in 10**6.
LEAST_THETA = 1e-9
LEAST_LEAK = 1e-6

LEAST_WEIGHT = 1e-30  # whose reciprocal is still finite
_LARGEST_EXPONENT = 80.0
_SMALL = 0.125  # below which series are summed

_WIDTHS = 4  # programs, each of samples with up to so many variables that are on
_LANES = 16  # of which these numbers are multiples, or loops would have a remainder
_SLOTS = 16  # samples whose iterations run side by side
_ITERATIONS_PER_ROUND = 8  # before those that have ended make room for others


class Rates(NamedTuple):
    """A network in the logarithms of its failures and noise.

    Attributes:
      prior_logits: [K].
      theta: [K, D]. -log P(latent k fails to turn on variable d).
      leak: [D]. -log P(x_d = 0) where no latent is on.
    """

    prior_logits: chex.Array
    theta: chex.Array
    leak: chex.Array


class Posterior(NamedTuple):
    """What an E-step knows of samples.

    Attributes:
      weights: [N, K, D]. They sum to one over the latents where x is one.
      q: [N, K]. q(h_k = 1 | x_n), the best one for the weights.
      bound: [N]. The lower bound on log P(x_n), in nats.
      iterations: [N] int. Updates of the weights.
    """

    weights: chex.Array
    q: chex.Array
    bound: chex.Array
    iterations: chex.Array


def as_rates(network: NoisyOr) -> Rates:
    """The network in rates, which are kept within their limits."""
    return Rates(
        network.prior_logits,
        jnp.clip(-log_sigmoid(network.failure_logits), LEAST_THETA),
        jnp.clip(-log_sigmoid(network.noise_logits), LEAST_LEAK),
    )


def as_network(rates: Rates) -> NoisyOr:
    """The network of rates."""

    def logits(rate):
        return -jnp.log(jnp.expm1(rate))

    return NoisyOr(rates.prior_logits, logits(rates.theta), logits(rates.leak))


def decay(u: chex.Array) -> tuple[chex.Array, chex.Array, chex.Array]:
    """exp(-u), 1 - exp(-u) and 1 - (1 + u) exp(-u), for u >= 0, to float32 rounding."""
    u = jnp.minimum(u, _LARGEST_EXPONENT)
    off = jnp.exp(-u)
    # By its series where the difference would cancel.
    series = u * u * (1 / 2 - u * (1 / 3 - u * (1 / 8 - u * (1 / 30 - u / 144))))
    is_small = u < _SMALL
    on = jnp.where(is_small, series + u * off, 1 - off)
    return off, on, jnp.where(is_small, series, on - u * off)


def _entropic(y: chex.Array) -> tuple[chex.Array, chex.Array]:
    """(1 + y) log(1 + y) - y, for y >= 0, to float32 rounding; and 1 + y."""
    total = 1 + y
    tail = 1 / 12 - y * (1 / 20 - y * (1 / 30 - y / 42))
    series = y * y * (1 / 2 - y * (1 / 6 - y * tail))
    # At 1 + y as it is rounded, which hardly matters; and then less y as that has it.
    large = total * jnp.log(total) - (total - 1)
    return jnp.where(y < _SMALL, series, large), total


def per_weight(theta: chex.Array, weights: chex.Array) -> chex.Array:
    """u = theta / w, where weights of zero have a finite one."""
    return theta / jnp.maximum(weights, LEAST_WEIGHT)


def gains(
    theta: chex.Array, odds: chex.Array, weights: chex.Array
) -> tuple[chex.Array, chex.Array]:
    """g(theta / w), and the derivative g(u) - u g'(u) of w g(theta / w) by w.

    Args:
      theta: [..., K, D].
      odds: [..., 1, D]. 1 / (exp(leak) - 1), the odds of being off by the leak alone.
      weights: [..., K, D].

    Returns:
      [..., K, D] and [..., K, D], at least 0.
    """
    u = per_weight(theta, weights)
    # g(u) = log(1 + y) and u g'(u) = u odds exp(-u) / (1 + y), for y as follows.
    _, on, rest = decay(u)
    y = odds * on
    entropic, total = _entropic(y)
    inverse = 1 / total
    return (entropic + y) * inverse, (entropic + odds * rest) * inverse


def update_weights(
    weights: chex.Array,
    q: chex.Array,
    slope: chex.Array,
    is_root: chex.Array | bool = False,
) -> chex.Array:
    """The published update of the weights, to c / sum c for c = w q slope, or another.

    Neither lowers the bound, whose terms q w g(theta / w) they change: g(u) / u is
    completely monotone, so that each of them is convex in 1 / w, and lies above its
    tangent there, c (1 - w / new w) more than before. That sums to zero over k for the
    published update, and is largest for new weights proportional to sqrt(c w). These
    are the best ones, at once, where theta is small beside the leak and the published
    update goes to and fro for ever; elsewhere that one is faster.

    Args:
      weights: [..., K, D].
      q: [..., K].
      slope: [..., K, D]. Derivative of w g(theta / w) by w.
      is_root: [] bool. Whether to take the other one.

    Returns:
      [..., K, D]. Where no latent explains anything the weights stay.
    """
    factor = q[..., None] * slope
    factor = jax.lax.cond(is_root, jnp.sqrt, lambda factor: factor, factor)
    c = weights * factor
    total = c.sum(-2, keepdims=True)
    new = c * (1 / jnp.maximum(total, LEAST_WEIGHT))
    return jnp.where(total > LEAST_WEIGHT, new, weights)


def start_weights(live: chex.Array, num_observed: int) -> chex.Array:
    """[K, D]. One over the number of live latents, zero for the others."""
    weights = (live > 0) / (live > 0).sum()
    return jnp.broadcast_to(weights[:, None], (live.size, num_observed))


def off_logits(rates: Rates, x: chex.Array) -> chex.Array:
    """[..., K]. Logits of q by what is off in x [..., D] alone, and the prior."""
    return rates.prior_logits - jnp.einsum("...d,kd->...k", 1 - x, rates.theta)


def bound(rates: Rates, x: chex.Array, logits: chex.Array) -> chex.Array:
    """[...]. The bound at the best q for weights, whose logits are given, in nats."""
    _, on, _ = decay(rates.leak)
    alone = jnp.where(x > 0, jnp.log(on), -rates.leak).sum(-1)
    prior = log_sigmoid(-rates.prior_logits) - log_sigmoid(-logits)
    return alone + prior.sum(-1)


class _Samples(NamedTuple):
    """What an E-step is given, and with a leading axis S the part that slots have.

    Attributes:
      off_logits: [N, K]. Of `off_logits`.
      columns: [N, D] int. The variables, first those that are on.
      num_on: [N]. How many of them are.
    """

    off_logits: chex.Array
    columns: chex.Array
    num_on: chex.Array


class _Slots(NamedTuple):
    """Samples whose E-iterations run side by side, over M variables.

    Attributes:
      place: [S] int. Of the sample in the order they come in.
      weights: [S, K, M].
      logits: [S, K]. Of q before the last update.
      iterations: [S] int.
      has_ended: [S] bool.
    """

    place: chex.Array
    weights: chex.Array
    logits: chex.Array
    iterations: chex.Array
    has_ended: chex.Array


def _iterate(
    rates: Rates, samples: _Samples, tolerance: chex.Array, slots: _Slots
) -> _Slots:
    """E-iterations of a round, whose last one updates by the root.

    Samples that have ended stay as they are.
    """
    num_variables = slots.weights.shape[-1]
    columns = samples.columns[:, :num_variables]
    is_on = jnp.arange(num_variables) < samples.num_on[:, None]
    is_on = is_on[:, None].astype(rates.theta.dtype)
    theta = rates.theta.T[columns].swapaxes(1, 2)
    odds = (1 / jnp.expm1(rates.leak))[columns][:, None]

    def iterate(index, slots):
        gain, slope = gains(theta, odds, slots.weights)
        # Kept, or XLA would compute exponentials and logarithms for each of the sums.
        evidence, slope = jax.lax.optimization_barrier((slots.weights * gain, slope))
        logits = samples.off_logits + (is_on * evidence).sum(-1)
        is_last = index == _ITERATIONS_PER_ROUND - 1
        new = update_weights(slots.weights, jax.nn.sigmoid(logits), slope, is_last)
        change = (is_on * (new - slots.weights) ** 2).sum((1, 2))
        # By the published update alone: the other one takes shorter steps.
        has_ended = slots.has_ended | (~is_last & ~(change > tolerance))
        has_ended |= slots.iterations == MAX_ITERATIONS
        return _Slots(
            slots.place,
            jnp.where(has_ended[:, None, None], slots.weights, new),
            jnp.where(slots.has_ended[:, None], slots.logits, logits),
            slots.iterations + ~has_ended,
            has_ended,
        )

    return jax.lax.fori_loop(0, _ITERATIONS_PER_ROUND, iterate, slots)


def _infer_some(
    rates: Rates,
    start: chex.Array,
    samples: _Samples,
    tolerance: chex.Array,
    order: chex.Array,
    span: tuple[chex.Array, chex.Array],
    found: tuple[chex.Array, ...],
) -> tuple[chex.Array, ...]:
    """E-steps of samples with at most M variables on, which come in by turns.

    Args:
      rates: Rates with K latents and D observed variables.
      start: [K, M]. Weights.
      samples: _Samples.
      tolerance: [].
      order: [N] int. In which samples come.
      span: [] and [] int. Which places of that order.
      found: weights [N, K, D] of variables in the order of their columns, logits
        [N, K] and iterations [N] of all samples.

    Returns:
      `found`, with those of these samples.
    """
    num_samples, end = len(order), span[1]
    size = min(num_samples, _SLOTS)

    def turn(carry):
        slots, next_place, found = carry
        index = order[jnp.minimum(slots.place, num_samples - 1)]
        slots = _iterate(
            rates, jax.tree.map(lambda leaf: leaf[index], samples), tolerance, slots
        )
        has_ended = slots.has_ended
        ended = jnp.where(has_ended & (slots.place < end), index, num_samples)
        weights, logits, iterations = found
        found = (
            weights.at[ended, :, : start.shape[1]].set(slots.weights, mode="drop"),
            logits.at[ended].set(slots.logits, mode="drop"),
            iterations.at[ended].set(slots.iterations, mode="drop"),
        )
        entering = next_place + jnp.cumsum(has_ended, dtype=jnp.int32) - 1
        place = jnp.where(has_ended, jnp.minimum(entering, end), slots.place)
        slots = _Slots(
            place,
            jnp.where(has_ended[:, None, None], start, slots.weights),
            slots.logits,
            jnp.where(has_ended, 0, slots.iterations),
            place == end,
        )
        next_place += has_ended.sum(dtype=jnp.int32)
        return slots, jnp.minimum(next_place, end), found

    place = jnp.minimum(span[0] + jnp.arange(size, dtype=jnp.int32), end)
    slots = _Slots(
        place,
        jnp.broadcast_to(start, (size, *start.shape)),
        jnp.zeros((size, len(start)), start.dtype),
        jnp.zeros(size, jnp.int32),
        place == end,
    )
    carry = slots, jnp.minimum(span[0] + size, end), found
    return jax.lax.while_loop(lambda carry: (carry[0].place < end).any(), turn, carry)[
        -1
    ]


def _widths(num_observed: int) -> list[int]:
    """Numbers of variables up to which samples are taken together, rising to all."""
    parts = range(1, _WIDTHS + 1)
    widths = (-(-num_observed * part // (_WIDTHS * _LANES)) * _LANES for part in parts)
    return sorted({min(width, num_observed) for width in widths})


@jax.custom_batching.sequential_vmap
def infer(
    rates: Rates, live: chex.Array, x: chex.Array, tolerance: chex.Array
) -> Posterior:
    """The E-step: weights and q of samples, each on its own, from w = 1/K on.

    A sample whose next published update would change its weights by less than the
    tolerance, or that has had MAX_ITERATIONS updates, has ended and makes room for
    another. Only weights of variables that are on matter, and samples with about as
    many of them run side by side. Of several networks, under `jax.vmap`, each has its
    E-step to itself: side by side their loops would wait for one another, and keep a
    copy of all weights in every turn.

    Args:
      rates: Rates with K latents, of which those that are not live are never on.
      live: [K].
      x: [N, D].
      tolerance: [] on the squared change of a sample's weights where x is one.

    Returns:
      Posterior, with weights of zero where x is zero.
    """
    num_samples, num_observed = x.shape
    num_on = x.sum(1).astype(jnp.int32)
    columns = jnp.argsort(-x, axis=1).astype(jnp.int32)
    samples = _Samples(off_logits(rates, x), columns, num_on)
    order = jnp.argsort(num_on).astype(jnp.int32)
    start = start_weights(live, num_observed).astype(rates.theta.dtype)
    found = (
        jnp.zeros((num_samples, *start.shape), start.dtype),
        jnp.zeros_like(samples.off_logits),
        jnp.zeros(num_samples, jnp.int32),
    )
    begin = jnp.int32(0)
    for width in _widths(num_observed):
        end = (num_on <= width).sum(dtype=jnp.int32)
        found = _infer_some(
            rates, start[:, :width], samples, tolerance, order, (begin, end), found
        )
        begin = end
    weights, logits, iterations = found
    column = jnp.maximum(jnp.cumsum(x, 1).astype(jnp.int32) - 1, 0)
    weights = x[:, None] * jnp.take_along_axis(weights, column[:, None], axis=2)
    return Posterior(
        weights, jax.nn.sigmoid(logits), bound(rates, x, logits), iterations
    )
