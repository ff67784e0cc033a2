"""Why larger recovers more: verdicts that follow the tables."""

import pathlib
import subprocess
import sys

import numpy as np
import pytest

from experiments import dynamics_claims
from lvm_jax.files import table
from lvm_jax.report import Comparison, Interval

_ROOT = pathlib.Path(__file__).parents[1]
_SEEDS = range(16)


@pytest.mark.parametrize(
    ("intervals", "verdict"),
    [
        ([(0.6, 0.7), (0.51, 0.9)], "holds"),
        ([(0.6, 0.7), (0.49, 0.9)], "undecided"),
        ([(0.6, 0.7), (0.3, 0.49)], "refuted"),
        ([(0.4, 0.7), (0.3, 0.49)], "refuted"),
    ],
)
def test_a_claim_holds_if_all_of_it_does(intervals, verdict):
    sides = [
        dynamics_claims.side_of(Interval(sum(ends) / 2, *ends), 0.5)
        for ends in intervals
    ]
    assert dynamics_claims.decided(sides) == verdict


@pytest.mark.parametrize(
    ("low", "high", "p_value", "verdict"),
    [
        (-0.5, 0.4, 0.9, "alike"),
        (0.1, 0.4, 0.001, "alike"),
        (-0.6, 0.4, 0.7, "undecided"),
        (0.2, 0.9, 0.001, "more"),
        (-0.9, -0.2, 0.001, "less"),
    ],
)
def test_a_small_difference_is_alike_and_a_large_one_has_a_direction(
    low, high, p_value, verdict
):
    difference = Comparison((low + high) / 2, low, high, p_value, "Welch")
    assert dynamics_claims.alike(difference) == verdict


def test_truths_that_are_not_recovered_are_censored_at_the_end():
    rows = [{"epoch": epoch, "is_recovered": True} for epoch in (1, 2, 2, 200)]
    rows += [{"epoch": 3, "is_recovered": False}] * 4
    epochs, shares = dynamics_claims.kaplan_meier(rows)
    known = epochs < 200
    np.testing.assert_array_equal(epochs[known], [1, 2])
    np.testing.assert_allclose(shares[known], [1 / 8, 3 / 8])


def _kept(level, truths, **more):
    """Runs of a level with about so many truths."""
    return [
        {
            "dataset": "IMG",
            "level": level,
            "setting": "study",
            "seed": seed,
            "num_recovered": min(truths + (seed // (1 + ("at" in more))) % 2, 8),
            "held_out_elbo": -13.0,
            "objective": -13.0,
            "diverged": False,
            **more,
        }
        for seed in _SEEDS
    ]


def _claims(tmp_path, tables):
    for name, rows in tables.items():
        table.write_rows(tmp_path / f"{name}.csv", rows)
    command = [sys.executable, "-m", "experiments.dynamics_claims"]
    flags = [f"--tables={tmp_path}", f"--figures={tmp_path / 'figures'}"]
    done = subprocess.run(
        [*command, *flags], cwd=_ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_verdicts_follow_the_tables(tmp_path):
    late = [
        row
        for level, truths in ((8, 5), (16, 7), (64, 7))
        for row in _kept(level, truths)
    ]
    times = dynamics_claims.TIMES
    text = _claims(
        tmp_path,
        {
            "IMG_late": late,
            "IMG_nearest": _kept(8, 5),
            "IMG_pruned": [
                row
                for time in times
                for row in _kept(16, 5 if time < 10 else 7, at=time)
            ],
            "IMG_renewed": [
                row
                for time in times
                for row in _kept(8, 5, at=time, objective=-13.0 - (time != 3))
            ],
            "IMG_nvil": [row | {"rate": 0.04} for row in _kept(8, 6)],
            "IMG_rloo8": [row | {"rate": 0.1} for row in _kept(8, 4)],
        },
    )
    assert "no warm start: holds" in text
    lines = {
        tuple(cells[:2]): cells
        for line in text.split("\n")
        if len(cells := [cell.strip() for cell in line.strip("| ").split("|")]) > 3
    }
    for time, verdict in ((1, "less"), (3, "less"), (10, "alike"), (100, "alike")):
        assert lines["pruned", f"{time}"][-1].endswith(f": {verdict}")
    assert lines["renewed", "3"][3].endswith(": alike")
    assert lines["renewed", "3"][4].endswith(": less")
    assert "lower variance: less at 1, more at 0 of 1 cells" in text
    assert "CON8_late" in text.split("\n")[0]
    assert (tmp_path / "figures" / "dynamics_times.png").exists()
