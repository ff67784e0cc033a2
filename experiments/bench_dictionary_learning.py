r"""Sparse coding beside scikit-learn's dictionary learning, on one core.

    pip install -e '.[bench]' && python -m experiments.bench_dictionary_learning

All learn from the same 9000 samples (gamma 10) with the same numbers of columns, and
their columns are matched alike with the 24 true ones: columns recovered, mean over
seeds, and seconds a run without compilation. scikit-learn's codes are positive, its
penalty is the threshold of our encoder, and it gets --iterations passes over the
samples; its own rule of when to stop ends MiniBatchDictionaryLearning after two passes,
with nothing recovered. About 25 minutes.
"""

import time
import warnings
from collections.abc import Callable, Iterator

import jax
import numpy as np
from absl import flags
from sklearn.decomposition import DictionaryLearning, MiniBatchDictionaryLearning
from sklearn.exceptions import ConvergenceWarning

import lvm_jax
from experiments import benchmark, cli
from lvm_jax import sparse_coding
from lvm_jax.sparse_coding import SparseCoding
from lvm_jax.sweep import devices
from lvm_jax.types import Dataset

_LEVELS = cli.define_levels([24, 48])
_NUM_SEEDS = flags.DEFINE_integer("num_seeds", 2, "Runs of each.", lower_bound=1)
_EPOCHS = flags.DEFINE_integer("train_epochs", 1000, "Epochs of ours.", lower_bound=1)
_ITERATIONS = flags.DEFINE_integer(
    "iterations", 50, "Passes of scikit-learn over the samples.", lower_bound=1
)
_ALPHA = flags.DEFINE_float(
    "alpha", sparse_coding.THRESHOLD, "Penalty on scikit-learn's codes."
)


def _num_recovered(dataset: Dataset, columns: np.ndarray) -> int:
    """True columns that are matched by columns [K, D] of any length."""
    params = SparseCoding(sparse_coding.normalise(columns.astype(np.float32)))
    recovery = sparse_coding.recover(dataset.truth, params)
    return int(recovery.num_recovered)


def _scikit_learn(
    method: Callable, level: int, dataset: Dataset, train: np.ndarray
) -> Iterator[tuple[int, float]]:
    for seed in range(_NUM_SEEDS.value):
        start = time.perf_counter()
        fitted = method(
            level,
            alpha=_ALPHA.value,
            max_iter=_ITERATIONS.value,
            tol=0,
            fit_algorithm="cd",
            positive_code=True,
            random_state=seed,
        ).fit(train)
        seconds = time.perf_counter() - start
        yield _num_recovered(dataset, fitted.components_), seconds


def _mini_batch(level: int, **settings) -> MiniBatchDictionaryLearning:
    return MiniBatchDictionaryLearning(level, max_no_improvement=None, **settings)


def _ours(
    level: int, dataset: Dataset, used: list[jax.Device]
) -> Iterator[tuple[int, float]]:
    plan = lvm_jax.Plan(
        levels=(level,),
        seeds=range(_NUM_SEEDS.value),
        settings={"study": sparse_coding.AlternatingMinimizationHyperparams()},
        epochs_per_call=100,
    )
    sweep = lvm_jax.Sweep(sparse_coding.task(dataset), plan, devices=used)
    sweep.memory()  # Compiles it.
    start = time.perf_counter()
    for chunk in sweep.train(sweep.init(), 0, _EPOCHS.value):
        recovered = chunk.records[0].recovery["num_recovered"][:, -1]
    seconds = (time.perf_counter() - start) / _NUM_SEEDS.value
    yield from ((int(count), seconds) for count in recovered)


def main() -> None:
    """Measures and prints."""
    warnings.simplefilter("ignore", ConvergenceWarning)
    benchmark.use_cores(1)
    used = devices.configure(1)
    dataset = sparse_coding.make(lvm_jax.key(0), 10.0)
    train = np.asarray(dataset.samples)[-benchmark.NUM_TRAIN :]
    print("method                            columns  recovered of 24  seconds a run")
    for level in map(int, _LEVELS.value):
        methods = {
            f"alternating minimization, {_EPOCHS.value}": lambda level=level: _ours(
                level, dataset, used
            ),
            f"DictionaryLearning, {_ITERATIONS.value}": lambda level=level: (
                _scikit_learn(DictionaryLearning, level, dataset, train)
            ),
            f"MiniBatchDictionaryLearning, {_ITERATIONS.value}": lambda level=level: (
                _scikit_learn(_mini_batch, level, dataset, train)
            ),
        }
        for name, method in methods.items():
            counts, seconds = zip(*method(), strict=True)
            print(
                f"{name:<33} {level:>7}  {np.mean(counts):15.1f}  "
                f"{np.mean(seconds):13.1f}",
                flush=True,
            )


if __name__ == "__main__":
    cli.run(main)
