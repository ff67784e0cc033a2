"""Noisy-OR networks learned by variational EM.

With theta_kd = -log f_kd, leak_d = -log l_d and g(u) = log P(x_d = 1) at a rate
leak + u less that at the leak alone, log(1 - exp(-leak - u)) - log(1 - exp(-leak)),
Jensen's inequality for weights w_nkd >= 0 that sum to one over k gives

    log P(x_nd = 1 | h) >= log(1 - exp(-leak_d)) + sum_k h_k w_nkd g(theta_kd / w_nkd)

and with it a lower bound on log P(x_n), in which q(h | x_n) factorises. An E-step
raises it in w and q of each sample alone, from w = 1/K on; an M-step raises it in the
network. Source: Singliar and Hauskrecht, "Noisy-OR Component Analysis and its
Application to Link Analysis", JMLR 7, 2006, section 3; settings from the authors'
release of Buhai et al. 2020.

Three things differ from the release. Every eighth update of weights is another one, as
the published one may go to and fro. No weight is cut to zero: of weights that do not
sum to one there is no bound. And the M-step is the joint optimum over theta and leak,
to rounding, where theirs stops at a thousandth.
"""

from collections.abc import Callable
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from lvm_jax.noisy_or import model as noisy_or
from lvm_jax.noisy_or.model import NoisyOr
from lvm_jax.numerics import log_sigmoid, unpack_bits
from lvm_jax.types import Info, Learner

MAX_ITERATIONS = 500  # of the E-step of a sample

# Limits of theta and leak. The lower ones are as good as none: a latent that fails to
# turn on a variable but once in 10**9, a variable that is on by itself once in 10**6.
_LEAST_THETA = 1e-9
_LEAST_LEAK = 1e-6
_LARGEST = 10.0
_LARGEST_LOGIT = 10.0  # of a gradient step
_LEAST_PRIOR = 1e-6  # and most, one less that
_LEAST_ON = 1e-6  # samples in which a latent has to be on

_LEAST_WEIGHT = 1e-30  # whose reciprocal is still finite
_LARGEST_EXPONENT = 80.0
_SMALL = 0.125  # below which series are summed

_WIDTHS = 3  # numbers of variables that are on, up to which samples are taken together
_SLOTS = 16  # samples whose E-iterations run side by side
_ITERATIONS_PER_ROUND = 8  # before those that have ended make room for others
_CHUNK = 64  # samples of which the M-step's sums are taken at once

_ROOT_TOLERANCE = 1e-5  # relative
_MAX_EVALUATIONS = 60  # of a slope, in a search for its root


class EmHyperparams(NamedTuple):
    """When an E-step ends.

    Attributes:
      weight_tolerance: squared change of a sample's weights in an iteration, summed
        over latents and variables, below which its E-step ends.
    """

    weight_tolerance: float = 1e-6


class GradientEmHyperparams(NamedTuple):
    """Rate of the M-step, and when an E-step ends.

    Attributes:
      logit_rate: of the gradient step on the logits, in nats per sample; the study's.
      weight_tolerance: squared change of a sample's weights in an iteration, summed
        over latents and variables, below which its E-step ends.
    """

    logit_rate: float = 10.0
    weight_tolerance: float = 1e-6


class State(NamedTuple):
    """What a run of the algorithm carries from step to step: the network alone."""

    params: NoisyOr


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


def as_rates(network: NoisyOr) -> Rates:
    """The network in rates, which are kept within their limits."""
    return Rates(
        network.prior_logits,
        jnp.clip(-log_sigmoid(network.failure_logits), _LEAST_THETA),
        jnp.clip(-log_sigmoid(network.noise_logits), _LEAST_LEAK),
    )


def as_network(rates: Rates) -> NoisyOr:
    """The network of rates."""

    def logits(rate):
        return -jnp.log(jnp.expm1(rate))

    return NoisyOr(rates.prior_logits, logits(rates.theta), logits(rates.leak))


def _off(u: chex.Array) -> tuple[chex.Array, chex.Array, chex.Array]:
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


def _per_weight(theta: chex.Array, weights: chex.Array) -> chex.Array:
    return theta / jnp.maximum(weights, _LEAST_WEIGHT)


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
    u = _per_weight(theta, weights)
    # g(u) = log(1 + y) and u g'(u) = u odds exp(-u) / (1 + y), for y as follows.
    _, on, rest = _off(u)
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
    new = c * (1 / jnp.maximum(total, _LEAST_WEIGHT))
    return jnp.where(total > _LEAST_WEIGHT, new, weights)


def start_weights(live: chex.Array, num_observed: int) -> chex.Array:
    """[K, D]. One over the number of live latents, zero for the others."""
    weights = (live > 0) / (live > 0).sum()
    return jnp.broadcast_to(weights[:, None], (live.size, num_observed))


def off_logits(rates: Rates, x: chex.Array) -> chex.Array:
    """[..., K]. Logits of q by what is off in x [..., D] alone, and the prior."""
    return rates.prior_logits - jnp.einsum("...d,kd->...k", 1 - x, rates.theta)


def bound(rates: Rates, x: chex.Array, logits: chex.Array) -> chex.Array:
    """[...]. The bound at the best q for weights, whose logits are given, in nats."""
    _, on, _ = _off(rates.leak)
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


def infer(
    rates: Rates, live: chex.Array, x: chex.Array, tolerance: chex.Array
) -> Posterior:
    """The E-step: weights and q of samples, each on its own, from w = 1/K on.

    A sample whose next published update would change its weights by less than the
    tolerance, or that has had MAX_ITERATIONS updates, has ended and makes room for
    another. Only weights of variables that are on matter, and samples with about as
    many of them run side by side.

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
    for part in range(1, _WIDTHS + 1):
        width = -(-num_observed * part // _WIDTHS)
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
        u = _per_weight(theta, weights)
        off, on, _ = _off(u)
        first = odds * off / (1 + odds * on)  # 1 / (exp(leak + u) - 1)
        own = on_x[:, None] * q[..., None] * first
        second = -own * (1 + first)
        parts = (
            own,
            weights * own,
            second / jnp.maximum(weights, _LEAST_WEIGHT),
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
        per_target = function / jnp.maximum(target, _LEAST_WEIGHT)
        move = excess * per_target / jnp.maximum(-derivative, _LEAST_WEIGHT)
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


def maximize(rates: Rates, x: chex.Array, posterior: Posterior) -> Rates:
    """The M-step: priors, theta and leak that are best for weights and q.

    The bound is concave in theta and leak, and separable over variables. Inside of a
    search for the root of its slope by the leak, which is one number for each
    variable, each theta is the root of its own slope for that leak. A latent that is
    on in less than 1e-6 samples keeps its theta: its slopes are flat.

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
        start = jnp.where(stays, rates.theta, jnp.clip(start, _LEAST_THETA, _LARGEST))

        def at_theta(theta, sums):
            del sums  # Of the evaluation before.
            sums = _sums(theta, leak, x, posterior, idle)
            return sums.theta, sums.theta_theta, sums

        search = _root(at_theta, theta_target, start, _LEAST_THETA, stays, no_sums)
        theta, sums = search.value, search.info
        moves = ~stays & (theta > _LEAST_THETA) & (theta < _LARGEST)
        moves &= sums.theta_theta < -_LEAST_WEIGHT
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
        _LEAST_LEAK,
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


def _learner(
    num_observed: int,
    tolerance: chex.Array,
    improve: Callable[[NoisyOr, chex.Array, Posterior], NoisyOr],
) -> Learner:
    """E-steps with an M-step: (network, x, posterior) -> network."""

    def expect(params, live, data):
        x = unpack_bits(data, num_observed)
        masked = noisy_or.mask(params, live)
        return x, infer(as_rates(masked), live, x, tolerance)

    def info(posterior):
        elbo = posterior.bound.mean()
        return Info(elbo, {"elbo": elbo})

    def init(key, live, train):
        del train  # The start does not depend on the data.
        return State(noisy_or.init(key, live.size, num_observed))

    def step(key, state, live, batch):
        del key  # Nothing is drawn.
        x, posterior = expect(state.params, live, batch)
        old, new = state.params, improve(state.params, x, posterior)
        is_live = live > 0
        new = NoisyOr(
            jnp.where(is_live, new.prior_logits, old.prior_logits),
            jnp.where(is_live[:, None], new.failure_logits, old.failure_logits),
            new.noise_logits,
        )
        return State(new), info(posterior)

    def evaluate(key, state, live, data):
        del key  # Nothing is drawn.
        return info(expect(state.params, live, data)[1])

    return Learner(init, step, evaluate, noisy_or.mask)


def em(num_observed: int, hyperparams: EmHyperparams | None = None) -> Learner:
    """Variational EM for noisy-OR networks as a Learner.

    Batches and data are binary samples packed by `noisy_or.pack`: [B, ceil(D / 32)]
    words. The algorithm takes all training samples in one step; of smaller batches a
    step forgets all but the last. Its metric is `elbo`, the mean lower bound on
    log P(x) in nats: of a step at the network that it starts from.

    Args:
      num_observed: D.
      hyperparams: when an E-step ends.

    Returns:
      Learner with State as its state and NoisyOr as its parameters.
    """
    hyperparams = hyperparams or EmHyperparams()

    def improve(old, x, posterior):
        return as_network(maximize(as_rates(old), x, posterior))

    return _learner(num_observed, hyperparams.weight_tolerance, improve)


def gradient_em(
    num_observed: int, hyperparams: GradientEmHyperparams | None = None
) -> Learner:
    """Variational EM whose M-step is one gradient step on failures and noise.

    As `em`, the study's "hybrid". A step that is too long may lower the bound.

    Args:
      num_observed: D.
      hyperparams: the step's rate, and when an E-step ends.

    Returns:
      Learner with State as its state and NoisyOr as its parameters.
    """
    hyperparams = hyperparams or GradientEmHyperparams()

    def improve(old, x, posterior):
        return ascend(old, x, posterior, hyperparams.logit_rate)

    return _learner(num_observed, hyperparams.weight_tolerance, improve)
