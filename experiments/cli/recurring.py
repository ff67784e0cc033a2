"""What recurs from run to run: printed and written where no truth is known."""

import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from absl import flags

import lvm_jax
from experiments.cli.sweep import Sweep, Trained
from lvm_jax import report as reports
from lvm_jax.files import archive, table
from lvm_jax.sweep import devices
from lvm_jax.training import show
from lvm_jax.training import workdir as layout
from lvm_jax.types import Level, Task, level_name

# What latents have on variables: parameters by name -> [C, D].
Strength = Callable[[Mapping[str, np.ndarray]], np.ndarray]


class Recurring:
    """The flag of what recurs, and its report."""

    def __init__(self, strength: Strength, label: str):
        """Defines the flag.

        Args:
          strength: of recurring latents on variables.
          label: what that is.
        """
        self._strength, self._label = strength, label
        self._calibrate = flags.DEFINE_integer(
            "calibrate",
            0,
            "Data sets to redraw from what recurs at the recommended level, and to "
            "learn from again, in workdirs beside --workdir, in the folder whose name "
            "ends with .calibration: how much of what recurs would be true?",
            lower_bound=0,
            upper_bound=1000,
        )

    def report(
        self,
        sweep: Sweep,
        trained: Mapping[int, Trained],
        names: Sequence[str] | None = None,
    ) -> None:
        """Prints what recurs on each sample, and writes tables, arrays and figures.

        Does so of samples without a known truth, or to calibrate it.

        Args:
          sweep: whose workdir it is.
          trained: of `Sweep.train_each`.
          names: of the variables; None if they have none.

        Raises:
          ValueError: if a workdir of a redrawn data set does not fit.
          OSError: if something cannot be written.
        """
        num_data_sets = self._calibrate.value
        for seed, (results, task) in trained.items():
            has_truth = task.truth is not None and not num_data_sets
            if has_truth or len(results.plan.seeds) < 2:
                continue
            folder = sweep.workdir
            if len(trained) > 1:
                folder /= f"data{seed}"
                print(f"data seed {seed}:")
            found = lvm_jax.consensus(task, results)
            recommended = self._report(folder, task, results, found, names)
            if num_data_sets:
                self._report_calibration(sweep, task, results, found, recommended)

    def check(self, plan: lvm_jax.Plan, data_seeds: Sequence[int]) -> None:
        """Refuses to calibrate what cannot be, before anything is trained.

        Args:
          plan: what is to be trained.
          data_seeds: of the data.

        Raises:
          ValueError: if flags do not go together.
        """
        if not self._calibrate.value:
            return
        num_levels, num_seeds = len(plan.levels), len(plan.seeds)
        if min(num_levels, num_seeds) < 2:
            raise ValueError(
                "expected at least 2 levels and 2 seeds with --calibrate, got "
                f"{num_levels} and {num_seeds}"
            )
        if len(data_seeds) > 1:
            raise ValueError("expected one --data_seed with --calibrate, got more")
        if devices.is_joined():
            raise ValueError("expected one process with --calibrate, got several")

    def _report(
        self,
        folder: pathlib.Path,
        task: Task,
        results: lvm_jax.Results,
        found: Mapping[Level, Sequence[lvm_jax.Consensus]],
        names: Sequence[str] | None,
    ) -> lvm_jax.Recommendation | None:
        """The recommendation of the first setting."""
        plan, settings = results.plan, list(results.plan.settings)
        recommended = None
        if len(plan.levels) > 1:
            recommended = lvm_jax.recommend(task, results, found)
        print("\nlatents that recur, in half of the other runs at least:")
        survivors = lvm_jax.num_survivors(task, results)
        print(reports.format_levels(found, recommended, settings, survivors))
        best = None if recommended is None else recommended[0].level
        level = plan.levels[-1] if best is None else best
        recurs = found[level][0]
        strength = self._strength(recurs.latents)
        labels = _labels(names, strength.shape[1])
        if len(strength):
            print(f"\nrecurring of {level_name(level)} latents; {self._label}:")
            print(reports.format_latents(recurs, strength, labels))
        _write(folder, found, recommended, plan, labels)
        drawings = {
            "recurring": reports.plot_latents(
                recurs,
                strength,
                None if names is None else labels,
                f"{task.name}, {level_name(level)} latents",
                label=self._label,
            ),
            "shares": reports.plot_shares(found, 0, len(plan.seeds), task.name),
            "agreement": reports.plot_agreement(
                lvm_jax.agreement(task, results), 0, task.name
            ),
        }
        for name, figure in drawings.items():
            reports.save(figure, folder / layout.FIGURES / f"{name}.png")
        return None if recommended is None else recommended[0]

    def _report_calibration(
        self,
        sweep: Sweep,
        task: Task,
        results: lvm_jax.Results,
        found: Mapping[Level, Sequence[lvm_jax.Consensus]],
        recommended: lvm_jax.Recommendation,
    ) -> None:
        if recommended.level is None:
            print("nothing to calibrate")
            return
        print(f"\ncalibration, {level_name(recommended.level)} latents:", flush=True)

        def train(task, plan, num_epochs, *, workdir):
            name = f"calibration/{workdir.name}"
            return sweep.prepare(task, plan, num_epochs, name=name, progress=show)

        calibrated = lvm_jax.calibrate(
            task,
            results,
            level=recommended.level,
            found=found,
            num_data_sets=self._calibrate.value,
            workdir=sweep.workdir,
            train=train,
        )
        print(reports.format_calibration(calibrated))
        path = sweep.workdir / layout.FIGURES / "calibration.png"
        reports.save(reports.plot_calibration(calibrated, task.name), path)


def _labels(names: Sequence[str] | None, number: int) -> list[str]:
    """Names of variables, x1 and so on where they have none."""
    if names is not None and len(names) == number:
        return list(names)
    return [f"x{place}" for place in range(1, number + 1)]


def _write(
    folder: pathlib.Path,
    found: Any,
    recommended: Any,
    plan: lvm_jax.Plan,
    names: Sequence[str],
) -> None:
    settings = list(plan.settings)
    rows = list(reports.latent_rows(found, recommended, settings, plan.seeds, names))
    path = folder / layout.CONSENSUS
    if rows:
        table.write_rows(path, rows)
    else:
        path.unlink(missing_ok=True)
    arrays = {
        level_name(level): dict(
            zip(settings, (recurs._asdict() for recurs in of_level), strict=True)
        )
        for level, of_level in found.items()
    }
    archive.write(folder / layout.CONSENSUS_ARRAYS, arrays)
