"""How far to trust what recurs: learned again from data whose truth is known.

A parametric bootstrap. Samples as many as a user's are drawn from the model that the
recurring latents make, learned from by the same plan, and what recurs there is compared
with the truth, which is known.
"""

import dataclasses
import os
import pathlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from lvm_jax import numerics
from lvm_jax.recurrence import Consensus
from lvm_jax.training.agreement import consensus, matched_truths, recommend
from lvm_jax.training.results import Results
from lvm_jax.training.train import train
from lvm_jax.types import Level, Task


class Calibration(NamedTuple):
    """What recurred in redrawn data, and what of it was true: L latents in all.

    Attributes:
      share: [L]. Of the other runs those that had the latent; 0 if its run alone had.
      truth: [L] int. The truth that its medoid matched, -1 if none.
      data_set: [L] int. Of which redrawn data set it is, from 0.
      num_truths: [S] int. Truths of each data set.
    """

    share: np.ndarray
    truth: np.ndarray
    data_set: np.ndarray
    num_truths: np.ndarray

    def precision(self, least: float, most: float = 1.0) -> tuple[int, int]:
        """Of the latents with a share in these limits, how many were true; of many."""
        is_within = (self.share >= least) & (self.share <= most)
        return int((self.truth[is_within] >= 0).sum()), int(is_within.sum())

    def recall(self, least: float) -> tuple[int, int]:
        """Of the truths, how many some latent of such a share was; of how many."""
        is_found = (self.share >= least) & (self.truth >= 0)
        found = {*zip(self.data_set[is_found], self.truth[is_found], strict=True)}
        return len(found), int(self.num_truths.sum())


def calibrate(
    task: Task,
    results: Results,
    *,
    level: Level | None = None,
    setting: str | None = None,
    num_data_sets: int = 4,
    workdir: str | os.PathLike | None = None,
    train: Callable[..., Results] = train,
    **options: Any,
) -> Calibration:
    """Learns again from data like a user's, whose truth is what recurs in theirs.

    Args:
      task: that was trained.
      results: of it.
      level: whose recurring latents make the truth, and that is trained again; the
        recommended one if None.
      setting: likewise; the first one if None.
      num_data_sets: S, to be redrawn.
      workdir: a directory for theirs, data0 and so on; None to train in memory. As
        `train` has it, the same call goes on after any interruption.
      train: what trains, with the arguments of `lvm_jax.train`.
      **options: further arguments of it.

    Returns:
      Calibration.

    Raises:
      ValueError: if the task cannot be redrawn, there is no recommended level, nothing
        recurs at the level, or there is one seed.
    """
    plan = results.plan
    place = 0 if setting is None else list(plan.settings).index(setting)
    setting = list(plan.settings)[place]
    if level is None:
        level = recommend(task, results)[place].level
        if level is None:
            raise ValueError("expected a level whose latents recur at the next ones")
    drawn = _redraw(task, consensus(task, results)[level][place], num_data_sets)
    numbers = {setting: plan.hyperparams(level, setting)}
    plan = dataclasses.replace(plan, levels=(level,), settings=numbers)
    num_epochs = results.epochs.size // plan.records_per_epoch
    folders = [
        None if workdir is None else pathlib.Path(workdir) / f"data{number}"
        for number in range(num_data_sets)
    ]
    learned = [
        train(unknown, plan, num_epochs, workdir=folder, **options)
        for unknown, folder in zip(
            [dataclasses.replace(known, truth=None) for known in drawn],
            folders,
            strict=True,
        )
    ]
    return _scored(drawn, learned)


def _redraw(task: Task, recurs: Consensus, number: int) -> list[Task]:
    """Tasks like another one whose truth is what recurs, as many as are asked for."""
    if task.redraw is None:
        raise ValueError(f"expected a task with `redraw`, got {task.name} without")
    if not len(recurs.member):
        raise ValueError("expected latents that recur, got none")
    return [
        task.redraw(numerics.key(seed), task, recurs.latents) for seed in range(number)
    ]


def _scored(tasks: Sequence[Task], learned: Sequence[Results]) -> Calibration:
    """What recurs in redrawn data, compared with their truths."""
    shares, truths, data_sets = [], [], []
    for number, (task, results) in enumerate(zip(tasks, learned, strict=True)):
        (level,), (setting,) = results.plan.levels, results.plan.settings
        (found,) = consensus(task, results, share=0.0)[level]
        matched = matched_truths(task, results, level, setting)
        place = found.member[np.arange(len(found.medoid)), found.medoid]
        shares.append(found.share)
        truths.append(matched[found.medoid, place])
        data_sets.append(np.full(len(place), number))
    num_truths = [len(next(iter(jax.tree.leaves(task.truth)))) for task in tasks]
    return Calibration(
        *map(np.concatenate, (shares, truths, data_sets)), np.array(num_truths)
    )
