r"""Speed of EM for noisy-OR networks, on one core.

    python -m experiments.bench_em

Learns a network of IMG's 9000 training samples and prints, for each level and at
some epochs: processor seconds of an E-step and of an M-step, E-iterations of a sample,
and nanoseconds for each weight in an iteration. About two minutes.
"""

import functools
import time

import jax
import jax.numpy as jnp
from absl import flags

import lvm_jax
from experiments import benchmark, cli
from lvm_jax import noisy_or
from lvm_jax.noisy_or.expectation import as_rates, infer
from lvm_jax.noisy_or.maximization import maximize

_LEVELS = cli.define_levels([8, 16])
_AFTER = flags.DEFINE_list("after", ["1", "10"], "Epochs at which it is measured.")
flags.register_validator(
    "after", lambda of: of and all(map(str.isdigit, of)), "expected whole numbers"
)


def _measure(level: int, epochs: list[int], x: jax.Array) -> None:
    live, num_on = jnp.ones(level), float(x.sum())
    tolerance = noisy_or.EmHyperparams().weight_tolerance
    expect = functools.partial(jax.jit(infer), live=live, x=x, tolerance=tolerance)
    improve = functools.partial(jax.jit(maximize), x=x)
    model = noisy_or.em(x.shape[1]).init(jax.random.key(0), live, None).params
    rates = jax.jit(as_rates)(model)
    for epoch in range(1, max(epochs) + 1):
        posterior = expect(rates)
        if epoch in epochs:
            seconds = [
                benchmark.median_seconds(step, time.process_time)
                for step in (
                    lambda rates=rates: expect(rates),
                    lambda rates=rates, q=posterior: improve(rates, posterior=q),
                )
            ]
            iterations = float(posterior.iterations.mean())
            weights = num_on * level * (iterations + 1)
            print(
                f"| {level} | {epoch} | {seconds[0]:.2f} | {seconds[1]:.2f} | "
                f"{iterations:.1f} | {1e9 * seconds[0] / weights:.1f} |",
                flush=True,
            )
        rates = improve(rates, posterior=posterior)


def main() -> None:
    """Measures and prints."""
    benchmark.use_cores(1)
    samples = noisy_or.make("IMG", lvm_jax.key(0)).samples[-benchmark.NUM_TRAIN :]
    x = jnp.asarray(samples, jnp.float32)
    print("| level | epoch | E-step, s | M-step, s | iterations | ns a weight |")
    print("|---|---|---|---|---|---|")
    for level in _LEVELS.value:
        _measure(int(level), list(map(int, _AFTER.value)), x)


if __name__ == "__main__":
    cli.run(main)
