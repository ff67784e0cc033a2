"""Numbers: functions safe in float32, keys, shuffles, bits, JAX's settings."""

import contextlib
import math
import numbers
from collections.abc import Iterator, Sequence

import chex
import jax
import jax.numpy as jnp
import numpy as np

# exp(-69.07755), the least probability whose reciprocal may still be summed over
# a batch in float32.
LEAST_PROBABILITY = 1e-30

_WORD = 32  # bits in a word of packed data
_HELD_OUT = 1000  # samples, as in the study

_IMPLEMENTATION = "threefry2x32"  # of random keys
_SEEDS = 1 << 32

PRECISIONS = ("float32", "float64")


@contextlib.contextmanager
def settings(precision: str = "float32") -> Iterator[None]:
    """JAX's settings that numbers depend on, whatever a user has made of them.

    Matrix products in full precision on every platform, random streams of Threefry as
    JAX draws them when they may be partitioned, standard promotion of types, compiled
    functions that may return NaN (a run that diverges is marked, and its siblings go
    on), copy to the host and draw from one key in two places; for this thread, as a
    context or as a decorator, and then as they were before.

    Args:
      precision: "float32" or "float64", the type of numbers that have none.

    Yields:
      None.
    """
    with (
        jax.enable_x64(precision == "float64"),
        jax.default_prng_impl(_IMPLEMENTATION),
        jax.threefry_partitionable(True),
        jax.default_matmul_precision("highest"),
        jax.numpy_dtype_promotion("standard"),
        jax.numpy_rank_promotion("allow"),
        jax.softmax_custom_jvp(True),
        jax.disable_jit(False),
        jax.debug_nans(False),
        jax.debug_infs(False),
        jax.debug_key_reuse(False),
        jax.transfer_guard("allow"),
    ):
        yield


@settings()
def key(seed: int) -> chex.PRNGKey:
    """The random key of a seed, the same whatever JAX's settings are.

    Raises:
      ValueError: if the seed is not a whole number from 0 to 2**32 - 1.
    """
    if not isinstance(seed, numbers.Integral) or not 0 <= seed < _SEEDS:
        raise ValueError(f"expected a seed from 0 to {_SEEDS - 1}, got {seed!r}")
    return jax.random.wrap_key_data(
        np.array([0, seed], np.uint32), impl=_IMPLEMENTATION
    )


def key_from_data(data: chex.Array) -> chex.PRNGKey:
    """The random keys [...] whose numbers are [..., 2]."""
    return jax.random.wrap_key_data(data, impl=_IMPLEMENTATION)


@jax.custom_jvp
def log1mexp(log_p: chex.Array) -> chex.Array:
    """log(1 - p) from log p, for log p <= 0, elementwise.

    Accurate to float32 rounding for log p down to -inf and up to -1e-30; closer to
    zero the result stays at log(1e-30) = -69.08, so that an impossible event has
    a finite log-probability and a finite gradient.

    Args:
      log_p: log-probabilities, any shape.

    Returns:
      log(1 - p), same shape.
    """
    return jnp.log(jnp.maximum(-jnp.expm1(log_p), LEAST_PROBABILITY))


@log1mexp.defjvp
def _log1mexp_jvp(primals, tangents):
    (log_p,), (tangent,) = primals, tangents
    complement = jnp.maximum(-jnp.expm1(log_p), LEAST_PROBABILITY)
    return jnp.log(complement), (1.0 - 1.0 / complement) * tangent


def _log1p_of_unit(x: chex.Array) -> chex.Array:
    """log(1 + x) for x in [0, 1], to float32 rounding.

    As 2 artanh(x / (2 + x)), by its Taylor series up to the 13th power: the argument
    is at most 1/3. XLA's log1p holds for every x and takes three times as long on a
    CPU.
    """
    t = x / (2.0 + x)
    square = t * t
    series = jnp.float32(1 / 13)
    for power in (11, 9, 7, 5, 3, 1):
        series = series * square + 1 / power
    return 2.0 * t * series


@jax.custom_jvp
def log_sigmoid(logit: chex.Array) -> chex.Array:
    """log(1 / (1 + exp(-logit))), elementwise; infinite logits are fine.

    The same function as `jax.nn.log_sigmoid`, in less than half the time on a CPU.

    Args:
      logit: any shape.

    Returns:
      Log-probabilities, same shape.
    """
    return jnp.minimum(logit, 0.0) - _log1p_of_unit(jnp.exp(-jnp.abs(logit)))


@log_sigmoid.defjvp
def _log_sigmoid_jvp(primals, tangents):
    (logit,), (tangent,) = primals, tangents
    return log_sigmoid(logit), tangent / (1.0 + jnp.exp(logit))


def row_sums(x: chex.Array) -> chex.Array:
    """Sums over the last axis: [...] from [..., D].

    As a product with ones: XLA's reductions on a CPU round differently from one shape
    of what stands beside a row to another.
    """
    return jnp.matmul(x, jnp.ones(x.shape[-1]), precision="highest")


def _hash(x: chex.Array) -> chex.Array:
    """A bijection of 32-bit integers that mixes all their bits.

    Source: Wellons, "Prospecting for Hash Functions", 2018, lowbias32.
    """
    x = (x ^ (x >> 16)) * jnp.uint32(0x7FEB352D)
    x = (x ^ (x >> 15)) * jnp.uint32(0x846CA68B)
    return x ^ (x >> 16)


def uniforms(
    key: chex.PRNGKey,
    shapes: Sequence[tuple[int, ...]],
    low: chex.Array,
    high: chex.Array,
) -> list[chex.Array]:
    """Uniform numbers of several shapes, of each what `jax.random.uniform` draws.

    From a key of its own, `split` from the key. They are cut from one draw, all as long
    as the longest, since every draw by itself takes most of a second to compile.

    Args:
      key: random key.
      shapes: n of them. The first rows of a longer array are the draw of fewer.
      low: [] or [n]. The least that may be drawn.
      high: [] or [n]. What is above all that is drawn.

    Returns:
      n arrays.
    """
    sizes = [math.prod(shape) for shape in shapes]
    low, high = (jnp.broadcast_to(bound, (len(shapes),)) for bound in (low, high))
    draws = jax.vmap(
        lambda key, low, high: jax.random.uniform(
            key, (max(sizes),), minval=low, maxval=high
        )
    )(jax.random.split(key, len(shapes)), low, high)
    return [
        draw[:size].reshape(shape)
        for draw, size, shape in zip(draws, sizes, shapes, strict=True)
    ]


def hashed_uniform(key: chex.PRNGKey, shape: tuple[int, ...]) -> chex.Array:
    """Uniform numbers from a hash of their indices: multiples of 2^-24 in [0, 1).

    A number depends on the key and its own indices alone: along every axis, the first
    ones of a longer draw are the draw of fewer. For draws by the million, which take a
    tenth of the time of Threefry's on a CPU; keys are to come from `jax.random`.

    Args:
      key: random key.
      shape: of one axis at least.

    Returns:
      Float32 of that shape.
    """
    first, second = jax.random.key_data(key)
    x = _hash(_hash(first + jnp.arange(shape[0], dtype=jnp.uint32)) ^ second)
    for size in shape[1:]:
        x = _hash(x[..., None] + jnp.arange(size, dtype=jnp.uint32))
    return (x >> 8).astype(jnp.int32).astype(jnp.float32) * jnp.float32(2**-24)


def split_float(x: chex.Array) -> tuple[chex.Array, chex.Array]:
    """Mantissas in [1, 2) and whole exponents: x = mantissa * 2^exponent.

    Args:
      x: positive and normal, any shape.

    Returns:
      Floats of that type, and int32.
    """
    info = jnp.finfo(x.dtype)
    integer = jnp.dtype(f"int{info.bits}").type
    bits = jax.lax.bitcast_convert_type(x, integer)
    one = jax.lax.bitcast_convert_type(jnp.ones((), x.dtype), integer)
    mantissa = (bits & integer((1 << info.nmant) - 1)) | one
    exponent = (bits >> integer(info.nmant)) - (one >> integer(info.nmant))
    return (
        jax.lax.bitcast_convert_type(mantissa, x.dtype),
        exponent.astype(jnp.int32),
    )


def permutation(key: chex.PRNGKey, size: int, rounds: int = 4) -> chex.Array:
    """A pseudo-random permutation of range(size), without sorting.

    A Feistel network whose halves have sides ceil(sqrt(size)), walked on where it
    leaves the range: a bijection that every index evaluates on its own. Sorting
    random numbers, as `jax.random.permutation` does, takes a fifth of a noisy-OR
    training epoch on a CPU.

    Source: Mitchell, Stokes, Frank and Holmes, "Bandwidth-Optimal Random Shuffling
    for GPUs", 2021, sections 3 and 4; Black and Rogaway, "Ciphers with Arbitrary
    Finite Domains", 2002, section 5.

    Args:
      key: random key.
      size: how many indices, from 1 to 2**30.
      rounds: pairs of Feistel rounds.

    Returns:
      [size] int32.

    Raises:
      ValueError: if size is out of range.
    """
    if not 1 <= size <= 2**30:
        raise ValueError(f"expected a size from 1 to 2**30, got {size}")
    side = jnp.uint32(math.isqrt(size - 1) + 1)
    round_keys = jax.random.bits(key, (rounds, 2), jnp.uint32)

    def add(half, other, round_key):
        # (hash * side) >> 16 is uniform on range(side), for sides up to 2**15.
        half = half + (((_hash(other ^ round_key) >> 16) * side) >> 16)
        return jnp.where(half >= side, half - side, half)

    def encrypt(index):
        left, right = index // side, index % side
        for left_key, right_key in round_keys:
            left = add(left, right, left_key)
            right = add(right, left, right_key)
        return left * side + right

    def walk(carry):
        index, is_outside = carry
        index = jnp.where(is_outside, encrypt(index), index)
        return index, index >= size

    index, _ = jax.lax.while_loop(
        lambda carry: carry[1].any(),
        walk,
        (jnp.arange(size, dtype=jnp.uint32), jnp.ones(size, bool)),
    )
    return index.astype(jnp.int32)


def pack_bits(bits: chex.Array) -> chex.Array:
    """Packs [..., D] bool into [..., ceil(D / 32)] words: less to gather.

    Raises:
      ValueError: if the bits are not of type bool.
    """
    if bits.dtype != bool:
        raise ValueError(f"expected bits of type bool, got {bits.dtype}")
    return _pack(bits)


@jax.jit
def _pack(bits: chex.Array) -> chex.Array:
    spare = [(0, 0)] * (bits.ndim - 1) + [(0, -bits.shape[-1] % _WORD)]
    bits = jnp.pad(jnp.asarray(bits, jnp.uint32), spare)
    bits = bits.reshape(*bits.shape[:-1], -1, _WORD)
    return (bits << jnp.arange(_WORD, dtype=jnp.uint32)).sum(-1, dtype=jnp.uint32)


def unpack_bits(words: chex.Array, size: int) -> chex.Array:
    """Unpacks [..., ceil(size / 32)] words into [..., size] float zeros and ones.

    Raises:
      ValueError: if the words are not what `pack_bits` makes of so many bits.
    """
    num_words = -(-size // _WORD)
    if words.dtype != jnp.uint32 or words.shape[-1:] != (num_words,):
        raise ValueError(
            f"expected {size} bits packed into {num_words} words of uint32, got "
            f"{words.dtype} of shape {words.shape}"
        )
    bits = (words[..., None] >> jnp.arange(_WORD, dtype=jnp.uint32)) & 1
    return bits.reshape(*words.shape[:-1], -1)[..., :size].astype(jnp.float32)


@settings()
def split(
    samples: chex.Array, num_held_out: int | None = None, seed: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Held-out samples and training samples.

    Args:
      samples: [N, ...].
      num_held_out: how many are held out; 1000, or a tenth of fewer than 10 000 but two
        at least, if None.
      seed: of a random choice; the first ones are held out if None.

    Returns:
      [num_held_out, ...] and [N - num_held_out, ...].

    Raises:
      ValueError: if nothing would be left to train on, or to hold out.
    """
    samples = np.asarray(samples)
    if num_held_out is None:
        num_held_out = max(2, min(_HELD_OUT, len(samples) // 10))
    if num_held_out < 1:
        raise ValueError(f"expected at least 1 held-out sample, got {num_held_out}")
    if num_held_out >= len(samples):
        raise ValueError(
            f"expected fewer held-out samples than the {len(samples)} there are, got "
            f"{num_held_out}"
        )
    if seed is not None:
        samples = samples[np.asarray(permutation(key(seed), len(samples)))]
    return samples[:num_held_out], samples[num_held_out:]


def halves(held_out: chex.Array) -> tuple[chex.Array, chex.Array]:
    """Held-out samples that choose a model, and others that it is reported on.

    Args:
      held_out: [n, ...].

    Returns:
      [n // 2, ...] and [n - n // 2, ...].

    Raises:
      ValueError: if there are fewer than two.
    """
    half = len(held_out) // 2
    if half < 1:
        raise ValueError(
            "expected at least 2 held-out samples, to choose a model and to report on, "
            f"got {len(held_out)}"
        )
    return held_out[:half], held_out[half:]
