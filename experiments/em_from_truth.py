r"""EM after Singliar and Hauskrecht, started at the truth: does it stay there?

    python -m experiments.em_from_truth

Prints, after each of a few rounds on 2000 samples of IMG, UNIF and CON8, the lower
bound that EM raises, the exact log P(x), and the truths that are still recovered. Two
minutes.
"""

import jax
import jax.numpy as jnp

import lvm_jax
from experiments import cli
from lvm_jax import noisy_or
from lvm_jax.noisy_or.expectation import as_network, as_rates, infer
from lvm_jax.noisy_or.maximization import maximize

_ROUNDS = (0, 1, 2, 4, 8, 16)
_NUM_SAMPLES = 2000
_TOLERANCE = 1e-4
_LEAST = 1e-3  # of a probability, that none is stuck where its slope is none


@jax.jit
def _round(rates, x):
    """The mean bound at rates, and the rates after an M-step."""
    live = jnp.ones(rates.prior_logits.size)
    posterior = infer(rates, live, x, jnp.float32(_TOLERANCE))
    return posterior.bound.mean(), maximize(rates, x, posterior)


def _follow(name: str) -> None:
    """Prints a row for each of the rounds of a data set."""
    dataset = noisy_or.make(name, lvm_jax.key(0), _NUM_SAMPLES)
    x, truth = jnp.asarray(dataset.samples, jnp.float32), dataset.truth
    failure = jnp.clip(truth.failure, _LEAST, 1 - _LEAST)
    start = noisy_or.from_probabilities(truth.prior, failure, truth.noise)
    rates = as_rates(start)
    for number in range(max(_ROUNDS) + 1):
        network = as_network(rates)
        bound, rates = _round(rates, x)
        if number in _ROUNDS:
            log_p = noisy_or.log_likelihood(network, dataset.samples).mean()
            recovered = noisy_or.recover(truth, network).num_recovered
            print(f"| {name} | {number} | {bound:.2f} | {log_p:.2f} | {recovered} |")


def main() -> None:
    """Follows EM on three data sets."""
    print("| data | rounds | bound, nats | log P(x), nats | truths of 8 |")
    print("| --- | --- | --- | --- | --- |")
    for name in ("IMG", "UNIF", "CON8"):
        _follow(name)


if __name__ == "__main__":
    cli.run(main)
