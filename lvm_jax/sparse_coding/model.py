"""Sparse coding as pure functions of a dictionary and arrays.

    x = sum_k h_k a_k,    h >= 0 with few entries above zero

with unit vectors a_k, the columns of the study's matrix A. Source: Buhai et al.,
"Empirical Study of the Benefits of Overparameterization in Learning Latent Variable
Models", ICML 2020, on sparse coding.
"""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
from jax.custom_batching import custom_vmap

from lvm_jax import recovery
from lvm_jax.types import Recovery

THRESHOLD = 0.005  # of the encoder's shifted ReLU, as in the study
MATCH_SQUARED_DISTANCE = 0.002  # as in the study

# Added to the Gram matrix's diagonal, as a share of its Frobenius norm: in float32,
# eight times eps, so that the factor exists whatever the columns are. For learned ones
# it comes to 1e-5. They come within 0.01 of each other (a squared singular value of
# 1e-4), and guards of 1e-4 merge such pairs and raise the error tenfold, while guards
# of 1e-5 and below recover what float64 does.
_GUARD = {"float32": 1e-6, "float64": 1e-11}
_FACTORED_AT_ONCE = 32  # rows of a matrix that LAPACK is given; fastest on a CPU


class SparseCoding(NamedTuple):
    """Parameters of the model.

    Attributes:
      dictionary: [K, D]. A column of A in each row: unit vectors, or zero for
        padding.
      threshold: []. Of the encoder's shifted ReLU; it is not learned.
      guard: []. What bounds the encoder's pseudo-inverse beyond what rounding asks for,
        see `least_squares`; none in the study, and not learned.
    """

    dictionary: chex.Array
    threshold: chex.Array | float = THRESHOLD
    guard: chex.Array | float = 0.0


def normalise(dictionary: chex.Array) -> chex.Array:
    """Scales every row of [K, D] to unit length; rows of zeros stay.

    Rows of any size: their largest entry is made one first, which has no gradient, as
    the result does not depend on it.
    """
    largest = jax.lax.stop_gradient(jnp.abs(dictionary).max(axis=1, keepdims=True))
    dictionary = dictionary / jnp.where(largest > 0, largest, 1)
    square = jnp.einsum("kd,kd->k", dictionary, dictionary)
    is_zero = square == 0
    scale = jnp.where(is_zero, 0, jax.lax.rsqrt(jnp.where(is_zero, 1, square)))
    return dictionary * scale[:, None]


def init(key: chex.PRNGKey, num_latents: int, num_observed: int) -> SparseCoding:
    """Draws normal columns and scales them to unit length, as the study does.

    The draw is one of float32 in every precision, so that runs in float32 and in
    float64 start alike.

    Args:
      key: random key.
      num_latents: K. The first k columns of a wider draw equal a draw of k.
      num_observed: D.

    Returns:
      SparseCoding in the default precision.
    """
    draw = jax.random.normal(key, (num_latents, num_observed), jnp.float32)
    return SparseCoding(normalise(draw.astype(float)))


def mask(params: SparseCoding, live: chex.Array) -> SparseCoding:
    """The model in which the columns that are not live are zero.

    Args:
      params: SparseCoding with K columns.
      live: [K]. Zero for padding columns.

    Returns:
      SparseCoding of the same shape, with the same codes for the live columns as
      without the others.
    """
    dictionary = jnp.where(live[:, None] > 0, params.dictionary, 0)
    return params._replace(dictionary=dictionary)


def sample(
    key: chex.PRNGKey, params: SparseCoding, sparsity: int, num_samples: int
) -> tuple[chex.Array, chex.Array]:
    """Draws codes of fixed sparsity and decodes them.

    The nonzeros are chosen uniformly without replacement; their values are uniform
    on (0, 1], divided by their sum.

    Args:
      key: random key.
      params: SparseCoding with K columns of D numbers.
      sparsity: nonzeros of each code, from 1 to K.
      num_samples: N.

    Returns:
      x: [N, D], h: [N, K].

    Raises:
      ValueError: if the sparsity is out of range.
    """
    num_latents = params.dictionary.shape[0]
    if not 1 <= sparsity <= num_latents:
        raise ValueError(
            f"expected a sparsity from 1 to {num_latents}, the number of columns, "
            f"got {sparsity}"
        )
    place_key, value_key = jax.random.split(key)
    shape = (num_samples, num_latents)
    places = jax.random.uniform(place_key, shape, jnp.float32)
    ranks = jnp.argsort(jnp.argsort(places, axis=1), axis=1)
    values = 1.0 - jax.random.uniform(value_key, shape, jnp.float32).astype(float)
    h = jnp.where(ranks < sparsity, values, 0)
    h /= h.sum(axis=1, keepdims=True)
    return decode(params, h), h


def _relaid(transposed: chex.Array) -> chex.Array:
    """The same array, a transpose, laid out anew.

    XLA would fold the transposition into the matrix product that follows, which on
    a CPU doubles the product's time.
    """
    return jax.lax.optimization_barrier(transposed)


def _factor_and_invert(gram: chex.Array) -> chex.Array:
    factor = jax.lax.linalg.cholesky(gram, symmetrize_input=False)
    identity = jnp.eye(len(gram), dtype=gram.dtype)
    return jax.lax.linalg.triangular_solve(factor, identity, left_side=True, lower=True)


@custom_vmap
def _one_by_one(gram: chex.Array) -> chex.Array:
    return _factor_and_invert(gram)


@_one_by_one.def_vmap
def _map_one_by_one(axis_size, in_batched, gram):
    """Factors one matrix after the other on a CPU.

    There jaxlib splits a batch over the threads that run the program, and waits for
    them: two batches at a time, of two devices or of two groups of a sweep, leave
    no thread to wait for, and the process hangs.
    """
    del axis_size, in_batched  # Unused: the only argument is mapped.
    inverse = jax.lax.platform_dependent(
        gram,
        cpu=lambda gram: jax.lax.map(_one_by_one, gram),
        default=jax.vmap(_factor_and_invert),
    )
    return inverse, True


def _by_halves(gram: chex.Array) -> chex.Array:
    """L^-1 [K, K], of factors of small matrices and products between them.

    With L = [[A, 0], [B, C]], it is [[A^-1, 0], [-C^-1 B A^-1, C^-1]]. On a CPU that
    takes two thirds of the time of one factor and its inverse, or less.
    """
    size = len(gram)
    if size <= _FACTORED_AT_ONCE:
        return _one_by_one(gram)
    half = size // 2
    first = _by_halves(gram[:half, :half])
    below = gram[half:, :half] @ first.T
    second = _by_halves(gram[half:, half:] - below @ below.T)
    upper_right = jnp.zeros((half, size - half), gram.dtype)
    return jnp.block([[first, upper_right], [-(second @ below) @ first, second]])


@jax.custom_jvp
def _inverse_factor(gram: chex.Array) -> chex.Array:
    """L^-1 [K, K] of the Cholesky factor L of a positive definite matrix."""
    return _by_halves(gram)


@_inverse_factor.defjvp
def _inverse_factor_jvp(primals, tangents):
    """Source: Murray, "Differentiation of the Cholesky decomposition", 2016."""
    inverse = _inverse_factor(*primals)
    whitened = inverse @ tangents[0] @ inverse.T
    half = jnp.tril(whitened) - 0.5 * jnp.diag(jnp.diag(whitened))
    return inverse, -half @ inverse


def least_squares(params: SparseCoding, x: chex.Array) -> chex.Array:
    """pinv(A) x: the shortest of the codes whose decoding is closest to x.

    By a Cholesky factor of the smaller of A^T A and A A^T, with a guard g added to its
    diagonal, and one step of refinement that takes the guard's effect back: singular
    value s is inverted to

        (1 - (g / (s^2 + g))^2) / s

    which is 1 / s where columns are distinct, 0 where some are equal, and at most
    0.79 / sqrt(g) between the two, where the pseudo-inverse has no bound. The guard
    is the model's own and, for rounding, 1e-6 (in float64 1e-11) times the Frobenius
    norm of A^T A. Without one of the model's, rounding adds a few hundredths (in
    float64 a hundred-thousandth) to codes where columns are equal, and where K > D only
    because of padding.

    Source: Riley, "Solving Systems of Linear Equations with a Positive Definite,
    Symmetric, but Possibly Ill-Conditioned Matrix", 1955 (refinement of a shifted
    system).

    Args:
      params: SparseCoding with K columns of D numbers.
      x: [N, D].

    Returns:
      [N, K]. Zero for columns of zeros.
    """
    dictionary = params.dictionary
    num_latents, num_observed = dictionary.shape
    is_wide = num_latents > num_observed
    gram = jnp.einsum("dk,dl->kl" if is_wide else "kd,ld->kl", dictionary, dictionary)
    norm = jnp.sqrt(jnp.einsum("kl,kl->", gram, gram))
    guard = params.guard + _GUARD[gram.dtype.name] * jnp.where(norm > 0, norm, 1.0)
    gram += guard * jnp.eye(len(gram), dtype=gram.dtype)
    inverse_factor = _inverse_factor(gram)

    def solve(rows):
        return _relaid(_relaid(rows @ inverse_factor.T) @ inverse_factor)

    def refined(rows):
        rough = solve(rows)
        return rough + guard * solve(rough)

    if is_wide:
        return jnp.einsum("nd,kd->nk", refined(x), dictionary)
    return refined(jnp.einsum("nd,kd->nk", x, dictionary))


def encode(params: SparseCoding, x: chex.Array) -> chex.Array:
    """Codes relu(pinv(A) x - threshold).

    Args:
      params: SparseCoding with K columns of D numbers.
      x: [N, D].

    Returns:
      [N, K]. Zero for columns of zeros.
    """
    return jax.nn.relu(least_squares(params, x) - params.threshold)


def decode(params: SparseCoding, h: chex.Array) -> chex.Array:
    """A h: [N, D] from codes [N, K]."""
    return h @ params.dictionary


def squared_error(params: SparseCoding, x: chex.Array, h: chex.Array) -> chex.Array:
    """Squared distance of each sample and its decoded code.

    Args:
      params: SparseCoding with K columns of D numbers.
      x: [N, D].
      h: [N, K].

    Returns:
      [N].
    """
    residual = decode(params, h) - x
    return jnp.einsum("nd,nd->n", residual, residual)


def gradient(residual: chex.Array, h: chex.Array) -> chex.Array:
    """Gradient of half the mean squared error for the dictionary, codes held fixed.

    Args:
      residual: [N, D]. Decoded codes minus samples.
      h: [N, K].

    Returns:
      [K, D].
    """
    return _relaid(h.T) @ residual / len(h)


def usage(params: SparseCoding, x: chex.Array) -> chex.Array:
    """[K]. Share of samples [N, D] in whose code a column is active."""
    return (encode(params, x) > 0).mean(axis=0)


def _squared_distance(a: chex.Array, b: chex.Array) -> chex.Array:
    """[T, K] from rows [T, D] and [K, D]."""
    squares = (a * a).sum(-1)[:, None] + (b * b).sum(-1)
    return jnp.maximum(squares - 2 * jnp.matmul(a, b.T, precision="highest"), 0)


def recover_by_usage(
    truth: SparseCoding, model: SparseCoding, live: chex.Array, usage: chex.Array
) -> Recovery:
    """Which true columns a learned dictionary has, before and after the filter.

    A pair costs the squared distance of its columns, and matches at a cost of at
    most 0.002. The filter drops columns that are never active, then those within
    the matching distance of a more active one.

    Source: Buhai et al. 2020, on sparse coding.

    Args:
      truth: SparseCoding with T columns.
      model: SparseCoding with K columns.
      live: [K]. Zero for padding columns.
      usage: [K]. Share of samples in whose code a column is active.

    Returns:
      Recovery.
    """
    dictionary = model.dictionary
    return recovery.recover(
        _squared_distance(truth.dictionary, dictionary),
        live=live,
        used=usage > 0,
        distance=_squared_distance(dictionary, dictionary),
        weight=usage,
        match_threshold=MATCH_SQUARED_DISTANCE,
        duplicate_threshold=MATCH_SQUARED_DISTANCE,
    )


def recover(
    truth: SparseCoding,
    model: SparseCoding,
    live: chex.Array | None = None,
    held_out: chex.Array | None = None,
) -> Recovery:
    """Which true columns a learned dictionary has, by its usage of held-out samples.

    Args:
      truth: SparseCoding with T columns.
      model: SparseCoding with K columns.
      live: [K]. Zero for padding columns; None if there are none.
      held_out: [N, D]. Samples that tell how active columns are; without them all are,
        alike.

    Returns:
      Recovery, as `recover_by_usage` defines it.
    """
    live = jnp.ones(len(model.dictionary)) if live is None else live
    shares = live if held_out is None else usage(model, held_out)
    return recover_by_usage(truth, model, live, shares)


def latents(model: SparseCoding) -> dict[str, chex.Array]:
    """Each latent's `column` [K, D]."""
    return {"column": model.dictionary}
