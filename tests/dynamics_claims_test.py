"""Why larger recovers more: verdicts that follow the tables."""

import re

import pytest
from sweep_process import run

from experiments.cli import verdicts as verdicts_
from experiments.cli.claims import HERE
from experiments.noise_claims import noise_verdict
from experiments.surplus_claims import CHANGES
from lvm_jax.files import table
from lvm_jax.report import Comparison, Interval

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
def test_a_claim_of_several_holds_if_all_of_them_do(intervals, verdict):
    verdicts = [
        verdicts_.above(Interval(sum(ends) / 2, *ends), 0.5) for ends in intervals
    ]
    assert verdicts_.together(verdicts) == verdict


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
    assert verdicts_.alike(difference, 0.5) == verdict


@pytest.mark.parametrize(
    ("ways", "says"),
    [
        ("less less alike", "surplus matters up to 3 epochs and not from 10 on"),
        ("less undecided alike", "surplus matters up to 1 epochs and not from 10 on"),
        ("less less less", "surplus matters up to 10 epochs"),
        ("alike alike alike", "surplus does not matter from 1 on"),
        ("undecided alike alike", "surplus does not matter from 3 on"),
        ("undecided alike undecided", "undecided"),
    ],
)
def test_surplus_matters_up_to_the_last_difference(ways, says):
    of_times = zip(((time, "16") for time in (1, 3, 10)), ways.split(), strict=True)
    assert CHANGES["pruned"].says(dict(of_times)) == says


@pytest.mark.parametrize(
    ("lower", "added", "verdict"),
    [
        (3, 0, "holds"),
        (3, -2, "holds"),
        (3, 1, "undecided"),
        (0, 0, "undecided"),
        (-1, 0, "refuted"),
    ],
)
def test_noise_helps_if_less_of_it_harms_and_more_does_not(lower, added, verdict):
    assert noise_verdict(lower, added) == verdict


def _kept(level, truths, **more):
    """Runs of a level with about so many truths."""
    return [
        {
            "dataset": "IMG",
            "level": level,
            "setting": f"at={more['at']}" if "at" in more else "study",
            "seed": seed,
            "num_recovered": min(truths + (seed // (1 + ("at" in more))) % 2, 8),
            "num_recovered_after_filter": 0,
            "num_kept": 0,
            "held_out_log_likelihood": -13.0,
            "objective": -13.0,
            "diverged": False,
            **more,
        }
        for seed in _SEEDS
    ]


def _claims(tmp_path, tables):
    for name, rows in tables.items():
        table.write_rows(tmp_path / f"{name}.csv", rows)
    flags = [f"--tables={tmp_path}", f"--figures={tmp_path / 'figures'}"]
    done = run("dynamics_claims", *flags)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_levels_that_are_not_there_are_left_out(tmp_path):
    """Of a budget that has two: in the table of what is settled, and in the figures."""
    kept = {
        path.stem: [
            row for row in table.read_rows(path) if row.get("level", 8) in (8, 16)
        ]
        for path in (HERE / "dynamics").glob("*.csv")
        if path.stem in ("moments", "settled", "contentions", "states", "agreement")
    }
    text = _claims(tmp_path, kept)
    (settled,) = re.findall(r"(?s)### 5. What is settled.*?\n\n(.*?)\n\n", text)
    levels = [line.split("|")[1].strip() for line in settled.split("\n")]
    assert levels == ["latents", "---", "8", "16"]
    drawn = {path.stem for path in (tmp_path / "figures").iterdir()}
    assert {"dynamics_settled", "dynamics_states_75", "dynamics_states_50"} == drawn


def test_verdicts_follow_the_tables(tmp_path):
    late = [
        row
        for level, truths in ((8, 5), (16, 7), (64, 7))
        for row in _kept(level, truths)
    ]
    times = (1, 3, 10, 30, 100)
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
            "IMG_local_expectation": [row | {"rate": 0.1} for row in _kept(8, 3)],
            "UNIF_rloo8": [
                row | {"rate": 0.1, "dataset": "UNIF"} for row in _kept(8, 3)
            ],
        },
    )
    pruned, renewed = (
        {
            cells[1]: cells
            for line in section.split("\n")
            if len(cells := [cell.strip() for cell in line.strip("|").split("|")]) > 3
        }
        for name in ("4a. Pruned", "4c. Renewed")
        for section in re.findall(rf"(?s)### {name}\n(.*?)###", text)
    )
    for time, verdict in ((1, "less"), (3, "less"), (10, "alike"), (100, "alike")):
        assert pruned[f"{time}"][-1].endswith(f": {verdict}")
    assert renewed["3"][3].endswith(": alike")
    assert renewed["3"][4].endswith(": less") and not renewed["1"][4]
    so_far = "not decided: runs are lacking, so far"
    assert f"no warm start: {so_far} holds" in text
    assert (
        f"pruned: IMG {so_far} surplus matters up to 3 epochs and not from 10" in text
    )
    assert f"renewed: IMG {so_far} renewal is not it" in text
    # Two estimators of one cell; that of UNIF has nothing to be compared with.
    assert "lower variance: less at 1, more at 0 of 1 cells" in text
    lacking = "not decided: 45 of 45 comparisons are lacking, by the others holds"
    assert f"noise helps: {lacking}" in text
    assert "Not there: CON8_late, CON8_renewed." in text
    assert "Not there: IMG_grown, CON8_late, CON8_grown." in text
    assert (tmp_path / "figures" / "dynamics_times.png").exists()
