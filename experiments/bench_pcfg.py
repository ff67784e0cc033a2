r"""Speed of neural PCFG training steps, and how much of a core's arithmetic they use.

    python -m experiments.bench_pcfg

Prints, on one core, the processor time for a sentence of a full training step
(networks, inside and outside pass, clipping, Adam) among other steps, as in an epoch,
by number of symbols of each kind, length and batch, its compile time, the
matrix-product FLOP that it needs, and the share of the speed of a large float32 matrix
product that this comes to. About five minutes.
"""

import time

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from experiments import benchmark, cli
from lvm_jax.pcfg import DIMENSION, maximum_likelihood
from lvm_jax.sweep import devices

_CASES = flags.DEFINE_list(
    "cases",
    [
        *("10x10x16", "10x20x16", "10x40x16", "10x20x1"),
        *("20x20x16", "30x20x16", "30x40x16", "60x20x16"),
    ],
    "What to measure: symbols of each kind x words x sentences of a batch.",
)
_VOCABULARY = flags.DEFINE_integer("vocabulary", 1000, "Words.", lower_bound=2)
_HIDDEN_LAYERS = 5
_STEPS, _REPEATS = 8, 8


def flop_of_sentence(num: int, length: int) -> int:
    """Matrix-product FLOP of the inside and the outside pass, N = T.

    Each span: products of N by N for every split, forward, recomputed, and two
    backward; three products with N^3 rules; with a word beside it N^2, six times. And
    the words' products with N^3 rules, six times.
    """
    flop = 0
    for width in range(2, length + 1):
        splits = max(width - 3, 0)
        per_span = 4 * splits * num**2 + 3 * num**3 + 6 * num**2
        flop += 2 * (length - width + 1) * per_span
    return flop + 2 * 6 * length * num**3


def flop_of_networks(num: int, vocabulary: int) -> int:
    """Matrix-product FLOP of a step's networks: forward, and two products backward."""
    hidden = _HIDDEN_LAYERS * DIMENSION**2 * (1 + num)
    out = DIMENSION * (num + num * vocabulary + num * (2 * num) ** 2)
    return 3 * 2 * (hidden + out)


def _measure(num: int, length: int, batch_size: int) -> dict[str, float]:
    learner = maximum_likelihood(_VOCABULARY.value)
    live = (jnp.ones(num), jnp.ones(num))
    state = jax.jit(learner.init)(jax.random.key(0), live, None)
    rng = np.random.default_rng(0)
    words = rng.integers(0, _VOCABULARY.value, (_STEPS, batch_size, length))
    batches = jnp.asarray(words, jnp.int32)

    def train(state, batches):
        return jax.lax.scan(
            lambda state, batch: learner.step(None, state, live, batch), state, batches
        )

    start = time.process_time()
    compiled = jax.jit(train, donate_argnums=0).lower(state, batches).compile()
    compile_seconds = time.process_time() - start
    seconds = []
    for _ in range(_REPEATS):
        start = time.process_time()
        state, info = compiled(state, batches)
        jax.block_until_ready((state, info))
        seconds.append((time.process_time() - start) / _STEPS)
    flop = batch_size * flop_of_sentence(num, length)
    flop += flop_of_networks(num, _VOCABULARY.value)
    return {
        "seconds": float(np.median(seconds[1:])) / batch_size,
        "best": min(seconds) / batch_size,
        "compile": compile_seconds,
        "flop": flop / batch_size,
    }


def main() -> None:
    """Measures and prints."""
    cases = [_parse(case) for case in _CASES.value]
    benchmark.use_cores(1)
    devices.configure(1)
    jax.config.update("jax_enable_compilation_cache", False)
    print(
        "symbols  words  batch  ms/sentence  least  MFLOP  share of product  compile, s"
    )
    for num, length, batch_size in cases:
        speed = benchmark.product_flops(time.process_time)
        row = _measure(num, length, batch_size)
        print(
            f"{num:7}  {length:5}  {batch_size:5}  {1e3 * row['seconds']:11.2f}  "
            f"{1e3 * row['best']:5.2f}  {row['flop'] / 1e6:5.1f}  "
            f"{row['flop'] / row['seconds'] / speed:16.3f}  {row['compile']:10.1f}",
            flush=True,
        )


def _parse(case: str) -> list[int]:
    parts = case.split("x")
    if len(parts) != 3 or not all(part.isdigit() and int(part) for part in parts):
        raise ValueError(f"expected a case such as 10x20x16, got {case!r}")
    sizes = [int(part) for part in parts]
    if sizes[1] < 2:
        raise ValueError(f"expected sentences of at least 2 words, got {case!r}")
    return sizes


if __name__ == "__main__":
    cli.run(main)
