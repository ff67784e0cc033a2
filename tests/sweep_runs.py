"""Runs of a sweep on the host, for tests of sweeps and of learners."""

import jax
import numpy as np

from lvm_jax.sweep.plan import RunName


def train_runs(sweep_, stop, runs=None, start=0):
    """Runs and records of all groups on the host, from given runs or the beginning."""
    runs = sweep_.init() if runs is None else sweep_.place(runs)
    chunks = list(sweep_.train(runs, start, stop))
    records = [
        jax.tree.map(lambda *parts: np.concatenate(parts, axis=1), *parts)
        for parts in zip(*(chunk.records for chunk in chunks), strict=True)
    ]
    return sweep_.gather(chunks[-1].runs), records


def run_of(sweep_, tree, level, seed, setting="first"):
    """The leaves of one run of a sweep of one group."""
    (group,) = sweep_.groups
    index = group.runs.index(RunName(level, setting, seed))
    return jax.tree.map(lambda leaf: leaf[index], tree)
