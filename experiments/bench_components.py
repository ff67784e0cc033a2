r"""Which components of scikit-learn's methods recur between seeds, beside ours.

    pip install -e '.[bench]'
    python -m experiments.bench_components --samples digits.csv --workdir runs/digits \
        --level 16

Learns the same samples by BernoulliRBM, NMF and FactorAnalysis, or beside sparse coding
by FastICA and FactorAnalysis, as many components and seeds as the runs in --workdir
have, and takes what recurs in half of the other runs, of all methods alike: two
components match if the cosine between them, its sign left out, is at least 0.9. A
noisy-OR latent's is 1 - failure, of those that survive the filter, and a column of
sparse coding likewise; the others have none.
"""

import warnings
from collections.abc import Callable

import jax
import numpy as np
from absl import flags
from sklearn import decomposition, exceptions, neural_network

import lvm_jax
from experiments import cli
from lvm_jax import noisy_or, recovery, sparse_coding
from lvm_jax.recurrence import recurring
from lvm_jax.training.agreement import compared

_SAMPLES = flags.DEFINE_string("samples", None, "That were learned.", required=True)
_WORKDIR = flags.DEFINE_string(
    "workdir",
    None,
    "Of experiments.noisy_or or sparse_coding, on the same samples.",
    required=True,
)
_LEVEL = flags.DEFINE_integer(
    "level", None, "Components of each run.", required=True, lower_bound=1
)
_LEAST_COSINE = 0.9
_MOST_SAMPLES = 10_000  # for the others, some of which are slow


def _others(number: int, seed: int, is_binary: bool) -> dict[str, object]:
    """Methods of scikit-learn by name, at their defaults but for longer training."""
    make = decomposition
    varimax = make.FactorAnalysis(
        number, svd_method="randomized", rotation="varimax", random_state=seed
    )
    if not is_binary:
        ica = make.FastICA(number, max_iter=1000, random_state=seed)
        return {"FastICA": ica, "FactorAnalysis": varimax}
    return {
        "BernoulliRBM": neural_network.BernoulliRBM(
            number, n_iter=100, random_state=seed
        ),
        "NMF": make.NMF(number, init="random", max_iter=1000, random_state=seed),
        "FactorAnalysis": varimax,
    }


def recur(
    components: np.ndarray, kept: np.ndarray, objective: np.ndarray
) -> np.ndarray:
    """Shares of the components that recur in half of the other runs.

    Args:
      components: [R, K, D].
      kept: [R, K] bool. Those that count.
      objective: [R].
    """
    sizes = np.linalg.norm(components, axis=2, keepdims=True)
    units = components / np.where(sizes > 0, sizes, 1)
    cosines = np.abs(np.einsum("rkd,sld->rskl", units, units))
    is_pair = kept[:, None, :, None] & kept[None, :, None]
    cost = np.where(is_pair, 1 - cosines, recovery.FORBIDDEN)
    everyone = np.ones(kept.shape[1], bool)

    def match(cost):
        return recovery.assign(cost, everyone, 1 - _LEAST_COSINE)

    matched = jax.lax.map(lambda row: jax.lax.map(match, row), cost.astype(np.float32))
    return recurring(np.asarray(matched), kept, objective).share


def _learned(results: lvm_jax.Results, task: lvm_jax.Task, level: int) -> np.ndarray:
    """Shares of the latents of our runs that recur."""
    setting = next(iter(results.plan.settings))
    (model, params, live, _), kept = compared(task, results, level, setting)
    models = jax.vmap(model)(params, live)
    if isinstance(models, sparse_coding.SparseCoding):
        components = models.dictionary
    else:
        components = 1 - models.failure
    return recur(np.asarray(components), kept, results.kept[level].objective[0])


def _fitted(make: Callable[[int], object], x: np.ndarray, num_seeds: int) -> np.ndarray:
    """Shares of a method's components that recur."""
    components = np.stack([make(seed).fit(x).components_ for seed in range(num_seeds)])
    kept = np.ones(components.shape[:2], bool)
    return recur(components, kept, np.zeros(num_seeds))


def main() -> None:
    """Prints how many components of each method recur."""
    samples = lvm_jax.read_samples(_SAMPLES.value)
    is_binary = samples.dtype.kind != "f"
    family = noisy_or if is_binary else sparse_coding
    task = family.task(lvm_jax.Dataset("own", samples))
    results, level = lvm_jax.load(_WORKDIR.value), _LEVEL.value
    if level not in results.plan.levels:
        raise ValueError(f"expected --level of {results.plan.levels}, got {level}")
    num_seeds = len(results.plan.seeds)
    places = np.random.default_rng(0).permutation(len(samples))[:_MOST_SAMPLES]
    x = samples[places].astype(float)
    ours = "noisy-OR" if is_binary else "sparse coding"
    shares = {ours: _learned(results, task, level)}
    warnings.simplefilter("ignore", exceptions.ConvergenceWarning)
    for name in _others(level, 0, is_binary):
        shares[name] = _fitted(
            lambda seed, name=name: _others(level, seed, is_binary)[name], x, num_seeds
        )
    print(f"{level} components, {num_seeds} seeds")
    for name, of_method in shares.items():
        everywhere = (of_method == 1).sum()
        print(f"{name:15} {len(of_method)} recur, {everywhere} in all runs")


if __name__ == "__main__":
    cli.run(main)
