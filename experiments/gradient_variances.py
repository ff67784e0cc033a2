r"""How much estimates of the recognition network's gradient vary.

    python -m experiments.gradient_variances --dataset IMG \
        --workdir runs/dynamics/IMG_variances

At parameters that NVIL has reached with 16 latents after 1, 10 and 100 epochs: the
variance of each estimate over batches and draws, by the squared length of its mean.
Writes variances.csv, a row for each moment, run and estimator. One minute. The rule
that it is read by is in experiments/dynamics.md.
"""

import itertools
import pathlib
from collections.abc import Iterator
from typing import Any

import jax
from absl import flags

import lvm_jax
from experiments import cli
from experiments.cli import made
from experiments.estimators import ESTIMATORS, Rate, of_estimator, relative_variance
from lvm_jax import noisy_or
from lvm_jax.files import table
from lvm_jax.sweep.run import Run
from lvm_jax.training import ownership
from lvm_jax.training import workdir as layout
from lvm_jax.types import Task

_BATCH_SIZES = {"nvil of 80": 80}  # where it is not 20, by name in the table
_MOMENTS = (1, 10, 100)  # epochs
_LEVEL, _SEEDS = 16, range(4)
_NUM_SAMPLES = 10_000

_DATASET = flags.DEFINE_enum("dataset", "IMG", noisy_or.NAMES, "What is drawn anew.")
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "Directory that the table is written into.", required=True
)
_NUM_DRAWS = flags.DEFINE_integer(
    "num_draws",
    2000,
    "Of each gradient, an even number, each of a batch of its own.",
    lower_bound=2,
)


def _runs(task: Task, rate: float) -> Iterator[tuple[int, Run]]:
    """Each moment, and the runs of NVIL then."""
    plan = lvm_jax.Plan(levels=(_LEVEL,), seeds=_SEEDS, settings={"nvil": Rate(rate)})
    sweep = lvm_jax.Sweep(task, plan, devices=jax.devices()[:1])
    runs, done = sweep.init(), 0
    for moment in _MOMENTS:
        for chunk in sweep.train(runs, done, moment):
            runs = chunk.runs
        done = moment
        (own,) = sweep.gather(runs)
        yield moment, own


def _rows(task: Task) -> Iterator[dict[str, Any]]:
    """A row for each moment, run and estimator."""
    learners = {
        name: make(task.truth.noise_logits.size, Rate())
        for name, make in ESTIMATORS.items()
    }
    learners |= dict.fromkeys(_BATCH_SIZES, learners["nvil"])
    for moment, runs in _runs(task, 0.04 if task.name == "IMG" else 0.1):
        for seed, (name, learner) in itertools.product(_SEEDS, learners.items()):
            run = jax.tree.map(lambda leaf, at=seed: leaf[at], runs)
            state = of_estimator(run.state, learner, run.live, task.train)
            size = _BATCH_SIZES.get(name, 20)
            yield {
                "dataset": task.name,
                "epoch": moment,
                "seed": seed,
                "estimator": name,
                "relative_variance": relative_variance(
                    learner, state, run.live, task.train, size, _NUM_DRAWS.value
                ),
            }


def main() -> None:
    """Measures, and writes the table."""
    name, path = _DATASET.value, pathlib.Path(_WORKDIR.value)
    if _NUM_DRAWS.value % 2:
        raise ValueError(f"expected an even --num_draws, got {_NUM_DRAWS.value}")
    about = {"variances": name, "num_draws": _NUM_DRAWS.value}
    with ownership.opened(path, about):
        layout.mark(path, about)
        dataset = noisy_or.make(name, lvm_jax.key(0), _NUM_SAMPLES)
        task = noisy_or.task(dataset, ESTIMATORS["nvil"])
        table.write_rows(path / "variances.csv", list(_rows(task)))
        now = made.here(jax.devices()[:1])
        layout.write_json(path / layout.FLAGS, {"made": now})
    print(f"table: {path / 'variances.csv'}")


if __name__ == "__main__":
    cli.run(main)
