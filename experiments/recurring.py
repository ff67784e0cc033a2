r"""What recurs, compared with truths that nothing but the comparison sees.

    python -m experiments.recurring --workdir runs/recurring/CON8_500 --dataset CON8 \
        --num_samples 500 --data_seed 0,1,2,3

Learns without the truth, as on own samples, at the learner's default rates or the
study's; takes what recurs in half of the first 4, 8 and 16 runs of each level, and of
all, and the recommended level; and writes recurring.csv, a row for each data seed,
number of runs and level, and latents.csv, a row for each recurring latent: is it true?
With --calibrate also calibration.csv: what data redrawn from the recurring latents say
of that. The rule that these are read by, and what came out, is in
experiments/recurring.md.
"""

import dataclasses
import functools
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np
from absl import flags

import lvm_jax
from experiments import cli, hard_truths
from lvm_jax import noisy_or
from lvm_jax.files import table
from lvm_jax.training import show
from lvm_jax.training.agreement import matched_truths
from lvm_jax.types import Dataset, Level

_NUM_RUNS = (4, 8, 16)
_READ = "PLNT"  # which is not drawn
_DATA = cli.Drawn(10_000)
_DATASET = flags.DEFINE_enum(
    "dataset",
    "UNIF-DRAWN",
    [*noisy_or.NAMES, _READ, *hard_truths.NAMES],
    f"What is drawn anew for each data seed; {_READ} is read from --data_dir alone.",
)
_DATA_DIR = flags.DEFINE_string(
    "data_dir", None, "The study's published release, to read --dataset from."
)
_STUDY_RATES = flags.DEFINE_bool(
    "study_rates",
    False,
    "Learn at the study's rates for the data set and level, not at the defaults.",
)
_SWEEP = cli.Sweep(noisy_or.NvilHyperparams, levels=[8, 16, 32])
_CALIBRATE = flags.DEFINE_integer(
    "calibrate",
    0,
    "Data sets to redraw from what recurs at the recommended level of each data seed.",
    lower_bound=0,
)
_HALF = 0.5  # of the other runs, that have a recurring latent


def _task(seed: int) -> lvm_jax.Task:
    return noisy_or.task(_dataset(seed), **_DATA.split(seed))


@functools.lru_cache(1)
def _dataset(seed: int) -> Dataset:
    name = _DATASET.value
    if _DATA_DIR.value is not None:
        cli.refuse("--data_dir", "num_samples", "data_seed")
        return noisy_or.read_dataset(_DATA_DIR.value, name)
    if name == _READ:
        raise ValueError(f"expected --data_dir to read {name} from, got none")
    of = hard_truths if name in hard_truths.NAMES else noisy_or
    return of.make(name, lvm_jax.key(seed), _DATA.num_samples)


def numbers_of_runs(total: int) -> list[int]:
    """Among how many of the first runs latents are to recur: 4, 8, 16, and all."""
    return [*(number for number in _NUM_RUNS if number < total), total]


def first_runs(results: lvm_jax.Results, number: int) -> lvm_jax.Results:
    """Results of the first seeds alone.

    Args:
      results: of a plan.
      number: of seeds.
    """
    return dataclasses.replace(
        results,
        plan=dataclasses.replace(results.plan, seeds=results.plan.seeds[:number]),
        history={key: of[:, :, :number] for key, of in results.history.items()},
        kept={
            level: jax.tree.map(lambda leaf: leaf[:, :number], kept)
            for level, kept in results.kept.items()
        },
    )


def _true_latents(
    task: lvm_jax.Task,
    results: lvm_jax.Results,
    found: Mapping[Level, list[lvm_jax.Consensus]],
) -> dict[Level, np.ndarray]:
    """The truth that each recurring latent is, by level; -1 where it is none."""
    (setting,) = results.plan.settings
    truths = {}
    for level, (recurs,) in found.items():
        truths[level] = np.full(len(recurs.share), -1)
        if task.truth is not None and len(recurs.share):
            matched = matched_truths(task, results, level, setting)
            truths[level] = matched[recurs.medoid, recurs.medoid_latent]
    return truths


def compare(
    task: lvm_jax.Task, results: lvm_jax.Results
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Rows of levels, and rows of recurring latents.

    Args:
      task: with a truth, if there is any.
      results: of one setting.
    """
    found = lvm_jax.consensus(task, results)
    (best,) = lvm_jax.recommend(task, results, found)
    truths = _true_latents(task, results, found)
    num_truths = 0 if task.truth is None else task.truth.prior_logits.size
    levels, latents = [], []
    elbos = results.history["held_out_elbo"][:, 0, :, -1].mean(-1)
    for elbo, (level, (recurs,)) in zip(elbos, found.items(), strict=True):
        # The largest level has none that could repeat it.
        is_repeated = best.is_repeated.get(level, np.zeros(len(recurs.share), bool))
        is_true = truths[level] >= 0
        about = {
            "num_runs": len(results.plan.seeds),
            "level": level,
            "is_recommended": level == best.level,
        }
        levels.append(
            {
                **about,
                "held_out_elbo": elbo,
                "recurring": len(is_true),
                "true": is_true.sum(),
                "truths": len({*truths[level][is_true]}),
                "num_truths": num_truths,
                "repeated": is_repeated.sum(),
                "repeated_true": (is_repeated & is_true).sum(),
            }
        )
        latents += [
            {
                **about,
                "latent": latent + 1,
                "truth": truth,
                "is_repeated": is_repeated[latent],
                "share": recurs.share[latent],
                "prior": recurs.latents["prior"][latent],
                "least_failure": recurs.latents["failure"][latent].min(),
                "spread": recurs.spread["failure"][latent].max(),
            }
            for latent, truth in enumerate(truths[level])
        ]
    return levels, latents


def _rows(trained: Mapping[int, cli.Trained]) -> Iterator[tuple[list, list]]:
    for seed, (results, unknown) in trained.items():
        task = dataclasses.replace(unknown, truth=_task(seed).truth)
        for number in numbers_of_runs(len(results.plan.seeds)):
            parts = compare(task, first_runs(results, number))
            about = {"dataset": task.name, "num_train": len(task.train)}
            about["data_seed"] = seed
            yield tuple([{**about, **row} for row in part] for part in parts)


def _calibrations(trained: Mapping[int, cli.Trained]) -> Iterator[dict[str, Any]]:
    """A row for each data seed: what is true, and what redrawn data say of it."""
    for seed, (results, unknown) in trained.items():
        task = dataclasses.replace(unknown, truth=_task(seed).truth)
        levels, _ = compare(task, results)
        best = next((row for row in levels if row["is_recommended"]), None)
        if best is None:
            continue

        def train(task, plan, num_epochs, *, workdir, seed=seed):
            name = f"calibration/{seed}_{workdir.name}"
            return _SWEEP.prepare(task, plan, num_epochs, name=name, progress=show)

        found = lvm_jax.calibrate(
            unknown,
            results,
            level=best["level"],
            num_data_sets=_CALIBRATE.value,
            workdir=_SWEEP.workdir,
            train=train,
        )
        is_found = found.share >= _HALF
        num_found = round(float((found.recalls(_HALF) * found.num_truths).sum()))
        counts = (
            (found.truth[is_found] >= 0).sum(),
            is_found.sum(),
            num_found,
            found.num_truths.sum(),
        )
        names = ("true", "recurring", "truths", "num_truths")
        yield {
            "dataset": task.name,
            "num_train": len(task.train),
            "data_seed": seed,
            "level": best["level"],
            **{name: best[name] for name in names},
            **{f"redrawn_{of}": n for of, n in zip(names, counts, strict=True)},
        }


def _plan() -> lvm_jax.Plan:
    """At the learner's default rates, or as the study learned the data set.

    Raises:
      ValueError: if the study has no rates for the data set.
    """
    if not _STUDY_RATES.value:
        return _SWEEP.plan()
    dataset = _dataset(_DATA.seeds[0])
    rates, snapshot_every = noisy_or.published(
        dataset, _SWEEP.levels, _SWEEP.batch_size
    )
    if rates is None:
        raise ValueError(f"expected a data set of the study, got {dataset.name}")
    return _SWEEP.plan(rates, snapshot_every=snapshot_every)


def main() -> None:
    """Learns, compares and writes the tables."""
    _SWEEP.start()
    plan = _plan()
    if len(plan.levels) < 2 or len(plan.seeds) < min(_NUM_RUNS):
        raise ValueError(
            f"expected at least 2 levels and {min(_NUM_RUNS)} seeds, got "
            f"{len(plan.levels)} and {len(plan.seeds)}"
        )
    if len(plan.settings) > 1:
        raise ValueError(f"expected one setting, got {len(plan.settings)}")
    trained = _SWEEP.train_each(
        lambda seed: dataclasses.replace(_task(seed), truth=None),
        _DATA.seeds,
        plan,
    )
    levels, latents = zip(*_rows(trained), strict=True)
    for name, parts in (("recurring", levels), ("latents", latents)):
        rows = [_plain(row) for part in parts for row in part]
        if rows:
            table.write_rows(_SWEEP.workdir / f"{name}.csv", rows)
    if _CALIBRATE.value:
        rows = [_plain(row) for row in _calibrations(trained)]
        if rows:
            table.write_rows(_SWEEP.workdir / "calibration.csv", rows)
    print(f"recurring.csv and latents.csv are in {_SWEEP.workdir}")


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: value.item() if isinstance(value, np.generic) else value
        for key, value in row.items()
    }


if __name__ == "__main__":
    cli.run(main)
