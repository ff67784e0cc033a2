r"""Speed of sparse coding sweeps, and how much of a core's arithmetic they use.

    python -m experiments.bench_sparse_coding

Prints what `experiments.bench_sweep` does, for dictionaries of 24, 48 and 96 columns.
The published NumPy code takes 450 and 800 ms per run-epoch at 24 and 48 columns on a
core like ours. About two minutes.
"""

import functools

import lvm_jax
from experiments import benchmark, cli
from lvm_jax import sparse_coding

_LEVELS = cli.define_levels([24, 48, 96])


def flop_per_epoch(level: int, batch_size: int) -> float:
    """FLOP of a run's epoch in products and factors, each counted once.

    Per step the Gram matrix, symmetric, of the smaller side S = min(K, D), its
    Cholesky factor and that factor's inverse; per sample three products of D x K,
    the projection, the decoding and the gradient, and four triangles of S x S.
    """
    side = min(level, sparse_coding.NUM_OBSERVED)
    per_step = level * sparse_coding.NUM_OBSERVED * side + 2 * side**3 / 3
    per_sample = 2 * (3 * level * sparse_coding.NUM_OBSERVED + 2 * side**2)
    return (benchmark.NUM_TRAIN // batch_size) * (per_step + batch_size * per_sample)


def _make_sweep(levels, devices) -> lvm_jax.Sweep:
    task = sparse_coding.task(sparse_coding.make(lvm_jax.key(0), 10.0))
    study = sparse_coding.AlternatingMinimizationHyperparams()
    return lvm_jax.Sweep(task, benchmark.plan(levels, study), devices=devices)


def main() -> None:
    """Measures and prints."""
    benchmark.report(
        [int(level) for level in _LEVELS.value],
        _make_sweep,
        functools.partial(flop_per_epoch, batch_size=benchmark.BATCH_SIZE.value),
    )


if __name__ == "__main__":
    cli.run(main)
