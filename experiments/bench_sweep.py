r"""Speed of noisy-OR sweeps, and how much of a core's arithmetic they use.

    python -m experiments.bench_sweep
    python -m experiments.bench_sweep --learner mean_field --batch_size 1 --levels 8,16
    python -m experiments.bench_sweep --learner rloo8 --levels 8,16,32
    python -m experiments.bench_sweep --levels 16 --against ../other_checkout

Prints for each level, on one core and on all: milliseconds and run-epochs per second
and core, the matrix-product FLOP that an epoch needs, and the share of the speed of
a large float32 matrix product that this comes to. Then the gain from all cores over
one, and what a mixed sweep costs over its levels swept alone. About four minutes.
"""

import functools

from absl import flags

import lvm_jax
from experiments import benchmark, cli
from experiments.estimators import ESTIMATORS, NUM_DRAWS, Rate
from lvm_jax import noisy_or
from lvm_jax.noisy_or import mean_field
from lvm_jax.noisy_or.nvil import HIDDEN

_LEVELS = cli.define_levels([8, 16, 32, 64, 128])
_CRITIC = flags.DEFINE_bool("critic", True, "Whether nvil has its critic.")

_NUM_OBSERVED = 64
_LEARNERS = {
    "nvil": (noisy_or.nvil, noisy_or.NvilHyperparams()),
    "mean_field": (noisy_or.mean_field, noisy_or.MeanFieldHyperparams()),
    **{name: (ESTIMATORS[name], Rate()) for name in (*NUM_DRAWS, "local_expectation")},
}
_LEARNER = flags.DEFINE_enum("learner", "nvil", list(_LEARNERS), "What learns.")


def flop_per_epoch(level: int, batch_size: int) -> int:
    """Matrix-product FLOP of a run's epoch, each product counted once.

    NVIL: per sample four products of D x K: the logits of q, log P(x | h), and the
    gradients of both; and two of D x H in the critic: its hidden layer and its
    gradient. Mean field: per update one of S x K x D, log P(x | h) of the draws, in
    whose place our learner looks up tables. RLOO: as NVIL without critic, log P(x | h)
    and its gradient once for each draw. Local expectation: likewise with one draw, and
    log P(x | h) with each latent in turn at its other value.
    """
    per_sample = 4 * level
    if _LEARNER.value == "nvil":
        per_sample += 2 * HIDDEN * _CRITIC.value
    elif _LEARNER.value == "mean_field":
        per_sample = mean_field.NUM_SWEEPS * level * mean_field.NUM_DRAWS * level
    elif _LEARNER.value == "local_expectation":
        per_sample += level * level
    else:
        per_sample = 2 * level * (1 + NUM_DRAWS[_LEARNER.value])
    num_samples = benchmark.NUM_TRAIN // batch_size * batch_size
    return 2 * _NUM_OBSERVED * per_sample * num_samples


def _make_sweep(levels, devices) -> lvm_jax.Sweep:
    learner, hyperparams = _LEARNERS[_LEARNER.value]
    if _LEARNER.value == "nvil":
        learner = functools.partial(learner, use_critic=_CRITIC.value)
    task = noisy_or.task(noisy_or.make("IMG", lvm_jax.key(0)), learner)
    plan = benchmark.plan(levels, hyperparams)
    return lvm_jax.Sweep(task, plan, devices=devices)


def main() -> None:
    """Measures and prints."""
    if _LEARNER.value != "nvil":
        cli.refuse(f"--learner {_LEARNER.value}", "critic")
    benchmark.report(
        [int(level) for level in _LEVELS.value],
        _make_sweep,
        functools.partial(flop_per_epoch, batch_size=benchmark.BATCH_SIZE.value),
    )


if __name__ == "__main__":
    cli.run(main)
