r"""Recovery of noisy-OR networks by level of overparameterization.

    python -m experiments.noisy_or --workdir runs/img

Draws 10 000 samples of IMG, learns networks of 8, 16 and 32 latents from them, 16
seeds each, for 100 epochs, and counts the true latents that come back: a minute and a
half on two cores. Expect all eight truths in about a fifth of the runs with 8 latents,
and in four fifths of those with 16.
"""

import functools
import math
import pathlib

import jax
import numpy as np
from absl import flags

from experiments import cli, runner
from lvm_jax import figures, report, results
from lvm_jax.data import noisy_or as data
from lvm_jax.data import release
from lvm_jax.learners.nvil import NvilConfig, Params, mask, nvil, pack
from lvm_jax.models import noisy_or, recognition
from lvm_jax.models.noisy_or import NoisyOr
from lvm_jax.results import Row
from lvm_jax.sweep import Kept, Sweep
from lvm_jax.types import Dataset, Level, Recovery

_LEVELS = cli.define_levels([8, 16, 32])
_DATASET = flags.DEFINE_string(
    "dataset",
    "IMG",
    f"Data set: one of {', '.join(data.NAMES)}, drawn anew; or with --data_dir one of "
    "the release's, such as PLNT.",
)
_DATA_DIR = flags.DEFINE_string(
    "data_dir",
    None,
    "The study's published release, with noisyor/datasets in it: read the data set "
    "from there instead of drawing it.",
)
_DATA_SEED = flags.DEFINE_integer(
    "data_seed", 0, "Seed of the samples, where they are drawn.", lower_bound=0
)
_NUM_SAMPLES = flags.DEFINE_integer(
    "num_samples",
    10_000,
    "Samples to draw, held-out ones included; 10 000 in the paper.",
    lower_bound=3,
)
_THETA_RATE = flags.DEFINE_float(
    "theta_rate",
    NvilConfig.theta_rate,
    "Adam's learning rate for the network, 0.04 in the paper.",
    lower_bound=0.0,
)
_Q_RATE = flags.DEFINE_float(
    "q_rate",
    NvilConfig.q_rate,
    "Adam's learning rate for the recognition network, 0.04 in the paper.",
    lower_bound=0.0,
)
_CRITIC_RATE = flags.DEFINE_float(
    "critic_rate",
    NvilConfig.critic_rate,
    "Learning rate of the critic's gradient descent, 1e-4 in the paper.",
    lower_bound=0.0,
)
_CRITIC = flags.DEFINE_bool(
    "critic",
    NvilConfig.use_critic,
    "Whether a critic is subtracted from the learning signal, as in the paper.",
)
for _module in (cli, runner):
    flags.adopt_module_key_flags(_module)

_LOG_LIKELIHOOD = "held_out_log_likelihood"
_HEADERS = {
    "held_out_elbo": "held-out ELBO, nats",
    _LOG_LIKELIHOOD: "held-out log P(x), nats",
}


def _load() -> Dataset:
    if _DATA_DIR.value is not None:
        return release.read_noisy_or_dataset(_DATA_DIR.value, _DATASET.value)
    if _DATASET.value not in data.NAMES:
        raise ValueError(
            f"expected a data set among {', '.join(data.NAMES)}, or --data_dir to read "
            f"another from, got {_DATASET.value!r}"
        )
    key = jax.random.key(_DATA_SEED.value)
    return data.make(_DATASET.value, key, _NUM_SAMPLES.value)


def _config() -> NvilConfig:
    return NvilConfig(
        theta_rate=_THETA_RATE.value,
        q_rate=_Q_RATE.value,
        critic_rate=_CRITIC_RATE.value,
        use_critic=_CRITIC.value,
    )


def _recover(truth: NoisyOr, params: Params, live: jax.Array) -> Recovery:
    return noisy_or.recover(truth, params.model, live)


@jax.jit
def _log_likelihoods(
    key: jax.Array, kept: Kept, x: jax.Array, mean: jax.Array
) -> jax.Array:
    """[R]. Mean log P(x) of kept networks in nats, or a lower bound on it."""

    def of_run(inputs):
        params = mask(*inputs)
        if _is_bound(params.model):
            return recognition.importance_weighted_bound(
                key,
                recognition.logits(params.q, x - mean),
                functools.partial(noisy_or.log_joint, params.model, x),
            ).mean()
        return noisy_or.log_likelihood(params.model, x).mean()

    return jax.lax.map(of_run, (kept.params, kept.live))


def _is_bound(model: NoisyOr) -> bool:
    return model.prior_logits.shape[-1] > noisy_or.MAX_ENUMERATED


def _log_likelihood_rows(
    kept: dict[Level, Kept], x: np.ndarray, mean: np.ndarray
) -> list[Row]:
    """The columns of each run that hold its held-out log-likelihood."""
    key = jax.random.key(_DATA_SEED.value)
    return [
        {
            _LOG_LIKELIHOOD: float(value),
            f"{_LOG_LIKELIHOOD}_is_bound": _is_bound(models.params.model),
        }
        for models in kept.values()
        for value in _log_likelihoods(key, models, x, mean)
    ]


def _plot_latents(
    path: pathlib.Path, title: str, truth: NoisyOr, kept: dict[Level, Kept]
) -> None:
    """Pictures of the first run at the first level above the number of truths."""
    num_truths, num_observed = truth.failure_logits.shape
    level = next((k for k in kept if k > num_truths), next(iter(kept)))
    model, live = jax.tree.map(
        lambda leaf: leaf[0], (kept[level].params.model, kept[level].live)
    )
    factors = range(math.isqrt(num_observed), 0, -1)
    height = next(n for n in factors if num_observed % n == 0)
    shape = (-1, height, num_observed // height)
    figures.plot_pictures(
        np.asarray(1 - truth.failure).reshape(shape),
        np.asarray(1 - model.failure)[:level].reshape(shape),
        jax.jit(noisy_or.recover)(truth, model, live),
        path,
        f"{title}: 1 - failure, first run with {level} latents",
    )


def _report(
    workdir: pathlib.Path, dataset: Dataset, kept: dict[Level, Kept], x: np.ndarray
) -> None:
    """Prints the table and draws the figures, from the tables in the workdir."""
    truth, title = dataset.truth, dataset.name
    num_truths = truth.prior_logits.size
    kept_rows = results.read_rows(workdir / results.KEPT)
    history = results.read_rows(workdir / results.HISTORY)
    summaries = report.summarise(kept_rows, num_truths, list(_HEADERS))
    print(report.format_table(summaries, num_truths, _HEADERS))
    for line in report.format_differences(kept_rows, _HEADERS):
        print(line)
    true_log_likelihood = float(noisy_or.log_likelihood(truth, x).mean())
    print(f"held-out log P(x) of the truth: {true_log_likelihood:.2f} nats")
    folder = workdir / "figures"
    figures.plot_full_recovery(summaries, folder / "full_recovery.png", title)
    figures.plot_measure(
        kept_rows,
        _LOG_LIKELIHOOD,
        folder / "log_likelihood.png",
        label=_HEADERS[_LOG_LIKELIHOOD],
        title=title,
        truth=true_log_likelihood,
    )
    figures.plot_recovered_by_epoch(
        history, num_truths, folder / "recovered_by_epoch.png", title
    )
    _plot_latents(folder / "latents.png", title, truth, kept)


def main() -> None:
    """Runs the sweep that the flags ask for and reports on it."""
    job = runner.start(_LEVELS.value)
    dataset = _load()
    held_out, train = runner.split(np.asarray(dataset.samples))
    mean = train.mean(axis=0, dtype=np.float32)
    recover = functools.partial(_recover, dataset.truth)

    def make_sweep(config):
        return Sweep(
            nvil(mean, _config()),
            recover,
            config,
            train=pack(train),
            held_out=pack(held_out),
            devices=job.devices,
        )

    with runner.trained(job, make_sweep, dataset, "elbo") as trained:
        rows = runner.kept_rows(job, dataset.name, "elbo", trained.kept, recover)
        log_likelihoods = _log_likelihood_rows(trained.kept, held_out, mean)
        rows = [row | more for row, more in zip(rows, log_likelihoods, strict=True)]
        results.write_sweep(
            trained.workdir, trained.history, rows, trained.kept, dataset.truth
        )
        _report(trained.workdir, dataset, trained.kept, held_out)
    print(f"tables, parameters and figures are in {trained.workdir}")


if __name__ == "__main__":
    cli.run(main)
