"""Rows and results for tests of tables, figures and reports."""

import types
from typing import NamedTuple

import numpy as np

from lvm_jax.sweep import Plan
from lvm_jax.types import level_name

ELBO = {"held_out_elbo": "ELBO"}
# An error, if it is taken for mathematics.
NAME = "corpus $x^$"


class _Rate(NamedTuple):
    rate: float = 0.1


def make_row(level, recovered, **more):
    return {
        "dataset": NAME,
        "level": level,
        "setting": "slow",
        "rate": 0.1,
        "seed": 0,
        "epoch": 20,
        "num_recovered": recovered,
        "num_kept": recovered,
        "num_recovered_after_filter": recovered,
        "diverged": False,
        "held_out_elbo": -12.0,
        **more,
    }


def without_recovery(rows):
    return [
        {name: row[name] for name in row if not name.startswith("num_")} for row in rows
    ]


def make_results(settings=("slow",), levels=(8, 16), num_truths=8, num_seeds=3):
    """Stands in for what training returns, with one run that has diverged."""
    random = np.random.default_rng(0)
    shape = (len(levels), len(settings), num_seeds, 4)
    history = {
        "train_elbo": random.normal(size=shape),
        "held_out_elbo": random.normal(-12, 1, shape),
        "diverged": np.zeros(shape, bool),
    }
    if num_truths is not None:
        for name in ("num_recovered", "num_kept", "num_recovered_after_filter"):
            history[name] = random.integers(0, num_truths + 1, shape)
    history["diverged"][0, -1, 1, 2:] = True
    for name, values in history.items():
        if name != "diverged":
            values[history["diverged"]] = 0 if name.startswith("num_") else np.nan

    def kept_rows(**measures):
        return [
            {
                "dataset": NAME,
                "level": level_name(level),
                "setting": setting,
                "seed": seed,
                "epoch": 4,
                **{name: values[*run, -1].item() for name, values in history.items()},
                **{name: values[run].item() for name, values in measures.items()},
            }
            for i, level in enumerate(levels)
            for j, setting in enumerate(settings)
            for seed in range(num_seeds)
            for run in [(i, j, seed)]
        ]

    return types.SimpleNamespace(
        name=NAME,
        plan=Plan(
            levels=levels,
            seeds=range(num_seeds),
            settings=dict.fromkeys(settings, _Rate()),
        ),
        epochs=np.arange(1, 5),
        history=history,
        num_truths=num_truths,
        kept_rows=kept_rows,
    )
