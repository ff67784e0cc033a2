r"""Recovery of sparse coding dictionaries by level of overparameterization.

    python -m experiments.sparse_coding --epochs 1000 --workdir runs/gamma10

Draws 10 000 samples of 24 columns in pairs ten degrees apart, learns dictionaries of
24, 48 and 96 columns from them, 16 seeds each, and counts the true columns that come
back: about ten minutes on two cores. Nothing is recovered before epoch 150. Expect
about 11 of 24 with 24 columns and 20 with 48. The study trains for 2000 epochs.
"""

import functools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from experiments import cli, runner
from lvm_jax import figures, report, results
from lvm_jax.data import release
from lvm_jax.data import sparse_coding as data
from lvm_jax.learners.alternating_minimization import (
    AlternatingMinimizationConfig,
    alternating_minimization,
)
from lvm_jax.models import sparse_coding
from lvm_jax.models.sparse_coding import SparseCoding
from lvm_jax.sweep import Kept, Sweep
from lvm_jax.types import Dataset, Level, Recovery

_LEVELS = cli.define_levels([24, 48, 96])
_GAMMA = flags.DEFINE_float(
    "gamma",
    10.0,
    "Angle between the two columns of a pair in degrees; 5 and 10 in the paper.",
)
_SPARSITY = flags.DEFINE_integer(
    "sparsity", data.SPARSITY, "Nonzeros of each sample's code, 5 in the paper."
)
_DATA_DIR = flags.DEFINE_string(
    "data_dir",
    None,
    "The study's published release, with sparsecoding/datasets in it: read the true "
    "columns from there instead of drawing them.",
)
_DATASET = flags.DEFINE_string(
    "dataset",
    None,
    "With --data_dir, the data set to read; gamma5, gamma10, ... by --gamma if not "
    "given.",
)
_DATA_SEED = flags.DEFINE_integer(
    "data_seed", 0, "Seed of the samples, and of columns that are drawn.", lower_bound=0
)
_NUM_SAMPLES = flags.DEFINE_integer(
    "num_samples",
    10_000,
    "Samples to draw, held-out ones included; 10 000 in the paper.",
    lower_bound=3,
)
_STEP_SIZE = flags.DEFINE_float(
    "step_size",
    AlternatingMinimizationConfig.step_size,
    "Rate of the dictionary's gradient descent, 0.1 in the paper.",
    lower_bound=0.0,
)
_THRESHOLD = flags.DEFINE_float(
    "threshold",
    AlternatingMinimizationConfig.threshold,
    "What the encoder's ReLU subtracts, 0.005 in the paper.",
    lower_bound=0.0,
)
_PRECISION = flags.DEFINE_enum(
    "precision",
    "float32",
    ["float32", "float64"],
    "Of samples and parameters: float64 in the paper, half as fast.",
)
for _module in (cli, runner):
    flags.adopt_module_key_flags(_module)

_ERROR = "held_out_error"
_HEADERS = {_ERROR: "held-out squared error"}


def _load() -> Dataset:
    key = jax.random.key(_DATA_SEED.value)
    if _DATA_DIR.value is None:
        if _DATASET.value is not None:
            raise ValueError("expected --data_dir to read --dataset from, got none")
        return data.make(key, _GAMMA.value, _SPARSITY.value, _NUM_SAMPLES.value)
    name = _DATASET.value or f"gamma{_GAMMA.value:g}"
    truth = release.read_sparse_coding_truth(_DATA_DIR.value, name)
    return data.from_truth(name, key, truth, _SPARSITY.value, _NUM_SAMPLES.value)


def _recover(
    truth: SparseCoding, x: jax.Array, params: SparseCoding, live: jax.Array
) -> Recovery:
    usage = sparse_coding.usage(params, x, _THRESHOLD.value)
    return sparse_coding.recover(truth, params, usage, live)


def _error(params: SparseCoding, x: jax.Array) -> float:
    h = sparse_coding.encode(params, x, _THRESHOLD.value)
    return float(sparse_coding.squared_error(params, x, h).mean())


def _plot_cosines(
    path: pathlib.Path, dataset: Dataset, kept: dict[Level, Kept], x: jax.Array
) -> None:
    """Cosines of the first run at the first level above the number of truths."""
    truth = dataset.truth
    level = next((k for k in kept if k > len(truth.dictionary)), next(iter(kept)))
    params, live = jax.tree.map(
        lambda leaf: leaf[0], (kept[level].params, kept[level].live)
    )
    figures.plot_similarity(
        np.asarray(truth.dictionary @ params.dictionary.T)[:, :level],
        jax.jit(_recover)(truth, x, params, live),
        path,
        f"{dataset.name}: first run with {level} columns",
        label="cosine",
    )


def _report(
    workdir: pathlib.Path, dataset: Dataset, kept: dict[Level, Kept], x: jax.Array
) -> None:
    """Prints the table and draws the figures, from the tables in the workdir."""
    title, num_truths = dataset.name, len(dataset.truth.dictionary)
    kept_rows = results.read_rows(workdir / results.KEPT)
    history = results.read_rows(workdir / results.HISTORY)
    summaries = report.summarise(kept_rows, num_truths, list(_HEADERS))
    print(report.format_table(summaries, num_truths, _HEADERS, digits=6))
    for line in report.format_differences(kept_rows, _HEADERS, digits=6):
        print(line)
    true_error = _error(dataset.truth, x)
    print(f"held-out squared error of the true columns: {true_error:.6f}")
    folder = workdir / "figures"
    figures.plot_recovered(summaries, num_truths, folder / "recovered.png", title)
    figures.plot_full_recovery(summaries, folder / "full_recovery.png", title)
    figures.plot_measure(
        kept_rows,
        _ERROR,
        folder / "error.png",
        label=_HEADERS[_ERROR],
        title=title,
        truth=true_error,
    )
    figures.plot_recovered_by_epoch(
        history, num_truths, folder / "recovered_by_epoch.png", title
    )
    _plot_cosines(folder / "cosines.png", dataset, kept, x)


def main() -> None:
    """Runs the sweep that the flags ask for and reports on it."""
    job = runner.start(_LEVELS.value, _PRECISION.value)
    dataset = _load()
    held_out, train = runner.split(np.asarray(dataset.samples))
    x = jnp.asarray(held_out)
    recover = functools.partial(_recover, dataset.truth, x)
    learner = alternating_minimization(
        held_out.shape[1],
        AlternatingMinimizationConfig(_STEP_SIZE.value, _THRESHOLD.value),
    )

    def make_sweep(config):
        return Sweep(
            learner,
            recover,
            config,
            train=train,
            held_out=held_out,
            devices=job.devices,
        )

    with runner.trained(job, make_sweep, dataset, "error") as trained:
        rows = runner.kept_rows(
            job, dataset.name, "error", trained.kept, recover, sign=-1
        )
        results.write_sweep(
            trained.workdir, trained.history, rows, trained.kept, dataset.truth
        )
        _report(trained.workdir, dataset, trained.kept, x)
    print(f"tables, parameters and figures are in {trained.workdir}")


if __name__ == "__main__":
    cli.run(main)
