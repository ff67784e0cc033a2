r"""Recovery of sparse coding dictionaries by level of overparameterization.

    python -m experiments.sparse_coding --epochs 1000 --workdir runs/gamma10
    python -m experiments.sparse_coding --samples mine.csv --workdir runs/mine
    python -m experiments.sparse_coding --levels 96 --step_size 0.3 --workdir runs/fast

Draws 10 000 samples of 24 columns in pairs ten degrees apart, learns dictionaries of
24, 48 and 96 columns from them, 16 seeds each, and counts the true columns that come
back: about ten minutes on two cores. Nothing is recovered before epoch 150. Expect
about 11 of 24 with 24 columns and 20 with 48. The study trains for 2000 epochs.
"""

import functools

import jax
import numpy as np
from absl import flags
from matplotlib.figure import Figure

import lvm_jax
from experiments import cli
from lvm_jax import report, sparse_coding
from lvm_jax.types import Dataset

_DATA = cli.Data(
    None,
    "With --data_dir, the data set whose true columns are read; gamma5, gamma10, ... "
    "by --gamma if not given.",
)
_LEARNERS = {
    "alternating_minimization": (
        sparse_coding.alternating_minimization,
        sparse_coding.AlternatingMinimizationHyperparams,
    ),
    "masked": (sparse_coding.masked, sparse_coding.MaskedHyperparams),
}
_SWEEP = cli.Sweep(
    {name: hyperparams for name, (_, hyperparams) in _LEARNERS.items()},
    levels=[24, 48, 96],
)
_RECURRING = cli.Recurring(lambda latents: latents["column"], "entry of the column")
_GAMMA = flags.DEFINE_float(
    "gamma", 10.0, "Angle between the two columns of a pair in degrees; 5 or 10."
)
_SPARSITY = flags.DEFINE_integer(
    "sparsity",
    sparse_coding.SPARSITY,
    "Nonzeros of each sample's code, 5 in the paper.",
)
_PRECISION = flags.DEFINE_enum(
    "precision",
    "float32",
    ["float32", "float64"],
    "Of samples and parameters: float64 in the paper, half as fast.",
)

_ERROR = "held_out_error"
_HEADERS = {_ERROR: "held-out squared error"}


def _dataset(seed: int) -> Dataset:
    if _DATA.is_own:
        cli.refuse("--samples", "gamma", "sparsity")
        return _DATA.own(sparse_coding.read_truth)
    if _DATA.dataset is not None:
        cli.refuse("--dataset", "gamma")
    key = lvm_jax.key(seed)
    drawn = {"sparsity": _SPARSITY.value, "num_samples": _DATA.num_samples}
    drawn["precision"] = _PRECISION.value
    if _DATA.data_dir is not None:
        name = _DATA.dataset or f"gamma{_GAMMA.value:g}"
        return sparse_coding.read_dataset(_DATA.data_dir, name, key, **drawn)
    if _DATA.dataset is not None:
        raise ValueError("expected --data_dir to read --dataset from, got none")
    return sparse_coding.make(key, _GAMMA.value, **drawn)


def _task(seed: int) -> lvm_jax.Task:
    learner, _ = _LEARNERS[_SWEEP.learner]
    return sparse_coding.task(_dataset(seed), learner, **_DATA.split(seed))


def _plot_cosines(task: lvm_jax.Task, results: lvm_jax.Results) -> Figure:
    level, params, live = cli.pictured(results)
    return report.plot_similarity(
        (np.asarray(task.truth.dictionary) @ params.dictionary.T)[:, :level],
        jax.jit(sparse_coding.recover)(task.truth, params, live, task.held_out),
        title=f"{task.name}: first run with {level} columns",
        label="cosine",
    )


def _plan() -> lvm_jax.Plan:
    plan = _SWEEP.plan(precision=_PRECISION.value)
    if _SWEEP.learner == "masked":
        for name in plan.settings:
            hidden = plan.hyperparams(plan.levels[0], name).hidden
            if hidden >= 1:
                raise ValueError(
                    f"expected a share below 1 of hidden variables, got {hidden:g}"
                )
    return plan


def main() -> None:
    """Runs the sweep that the flags ask for and reports on it."""
    _SWEEP.start()
    plan = _plan()
    _RECURRING.check(plan, _DATA.seeds)
    trained = _SWEEP.train_each(_task, _DATA.seeds, plan)
    results, task = next(iter(trained.values()))
    truth, figures = {}, {}
    if task.truth is not None:
        true_error = functools.partial(
            sparse_coding.true_error, precision=plan.precision
        )
        truth[_ERROR] = cli.mean_of_truths(true_error, trained)
        figures["cosines.png"] = functools.partial(_plot_cosines, task, results)
    cli.report(
        _SWEEP.workdir, trained, _HEADERS, truth=truth, figures=figures, digits=6
    )
    _RECURRING.report(_SWEEP, trained, _DATA.names())


if __name__ == "__main__":
    cli.run(main)
