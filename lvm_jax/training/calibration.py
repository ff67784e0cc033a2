"""How far to trust what recurs: learned again from data whose truth is known.

A parametric bootstrap. Samples as many as a user's are drawn from the model that the
recurring latents make, learned from by the same plan, and what recurs there is compared
with the truth, which is known.
"""

import dataclasses
import hashlib
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
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

    def precisions(self, share: float) -> np.ndarray:
        """Of each data set with latents of such a share, the part of them that is true.

        Args:
          share: of the other runs, at least.
        """
        is_found = self.share >= share
        parts = [is_found & (self.data_set == n) for n in range(len(self.num_truths))]
        return np.array([(self.truth[of] >= 0).mean() for of in parts if of.any()])

    def recalls(self, share: float) -> np.ndarray:
        """[S]. Of each data set's truths the part that is found with such a share.

        Args:
          share: of the other runs, at least.
        """
        is_found = (self.share >= share) & (self.truth >= 0)
        found = [
            len({*self.truth[is_found & (self.data_set == n)]})
            for n in range(len(self.num_truths))
        ]
        return np.array(found) / self.num_truths


def calibrate(
    task: Task,
    results: Results,
    *,
    level: Level | None = None,
    setting: str | None = None,
    found: Mapping[Level, Sequence[Consensus]] | None = None,
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
      found: of `consensus`, of the same; None if that is to be done.
      num_data_sets: S, to be redrawn.
      workdir: a directory for theirs; None to train in memory. As `train` has it, the
        same call goes on after any interruption; other latents have other workdirs,
        by their digest.
      train: what trains, with the arguments of `lvm_jax.train`.
      **options: further arguments of it.

    Returns:
      Calibration.

    Raises:
      ValueError: if the task cannot be redrawn, there is no such level or setting or
        none to recommend, nothing recurs at the level, or there is one seed.
    """
    plan = results.plan
    setting = next(iter(plan.settings)) if setting is None else setting
    for name, value, known in (
        ("setting", setting, plan.settings),
        ("level", level, (None, *plan.levels)),
    ):
        if value not in known:
            raise ValueError(f"expected a {name} of the results, got {value!r}")
    if num_data_sets < 1:
        raise ValueError(f"expected at least 1 data set, got {num_data_sets}")
    if task.redraw is None:
        raise ValueError(f"expected a task with `redraw`, got {task.name} without")
    place = list(plan.settings).index(setting)
    found = consensus(task, results) if found is None else found
    if level is None:
        level = recommend(task, results, found)[place].level
        if level is None:
            raise ValueError("expected a level to recommend, got none: nothing recurs")
    recurs = found[level][place]
    drawn = _redraw(task, recurs, num_data_sets)
    numbers = {setting: plan.hyperparams(level, setting)}
    plan = dataclasses.replace(plan, levels=(level,), settings=numbers)
    num_epochs = results.epochs.size // plan.records_per_epoch
    names = [f"{_digest(recurs)}-data{number}" for number in range(num_data_sets)]
    folders = [None if workdir is None else pathlib.Path(workdir) / of for of in names]
    learned = [
        train(unknown, plan, num_epochs, workdir=folder, **options)
        for unknown, folder in zip(
            [dataclasses.replace(known, truth=None) for known in drawn],
            folders,
            strict=True,
        )
    ]
    return _scored(drawn, learned)


def _digest(recurs: Consensus) -> str:
    """Eight characters that tell latents from others."""
    digest = hashlib.sha256()
    for name in sorted(recurs.latents):
        digest.update(np.ascontiguousarray(recurs.latents[name]).tobytes())
    return digest.hexdigest()[:8]


def _redraw(task: Task, recurs: Consensus, number: int) -> list[Task]:
    """Tasks like another one whose truth is what recurs, as many as are asked for."""
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
        shares.append(found.share)
        truths.append(matched[found.medoid, found.medoid_latent])
        data_sets.append(np.full(len(found.share), number))
    num_truths = [len(next(iter(jax.tree.leaves(task.truth)))) for task in tasks]
    return Calibration(
        *map(np.concatenate, (shares, truths, data_sets)), np.array(num_truths)
    )
