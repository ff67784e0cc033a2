"""Tables and figures of what recurs: what they say, of numbers that are known."""

import numpy as np
import pytest

from lvm_jax import Calibration, Recommendation, report
from lvm_jax.recurrence import recurring
from lvm_jax.report.recurring import strongest

_NAMES = ["ash", "bay", "elm"]


def _consensus(num_latents, num_runs=5, share=0.5):
    """All runs have all latents, but for the last one, which the last run has not."""
    kept = np.ones((num_runs, num_latents), bool)
    kept[-1, -1] = False
    matched = np.tile(np.arange(num_latents), (num_runs, num_runs, 1))
    matched[:, -1, -1] = matched[-1, :, -1] = -1
    found = recurring(matched, kept, np.arange(num_runs), share)
    column = np.arange(len(found.share), dtype=float)
    failure = np.eye(len(found.share), len(_NAMES))
    latents = {"failure": failure, "prior": column / 10}
    return found._replace(latents=latents, spread=latents)


@pytest.fixture(scope="module")
def found():
    """Of three levels and a setting."""
    return {2: [_consensus(2)], 4: [_consensus(3)], 8: [_consensus(3)]}


_REPEATED = {2: np.array([True, True]), 4: np.array([True, False, True])}
_BEST = [Recommendation(2, _REPEATED)]


def test_levels_are_counted_and_one_recommended(found):
    survivors = {level: np.array([[3, 4]]) for level in found}
    lines = report.format_levels(found, _BEST, ["only"], survivors).split("\n")
    assert [line.split() for line in lines[2:5]] == [
        ["2", "3.5", "2", "2"],
        ["4", "3.5", "3", "2"],
        ["8", "3.5", "3", "-"],
    ]
    assert lines[5].startswith("recommended: 2,")
    nothing = [Recommendation(None, {})]
    text = report.format_levels(found, nothing, ["only"], survivors)
    assert "no latent recurs" in text and "recommended" not in text
    text = report.format_levels(found, None, ["only"], survivors)
    assert text.count("\n") == 4


def test_latents_are_told_by_share_numbers_and_strongest_variables(found):
    (recurs,) = found[4]
    strength = np.array([[0.0, 0.9, -1.0], [0.1, 0.0, 0.05], [0.0, 0.0, 0.0]])
    lines = report.format_latents(recurs, strength, _NAMES).split("\n")
    assert lines[0].split() == [
        "latent",
        "share",
        "of",
        "runs",
        "prior",
        "strongest",
        "on",
    ]
    assert lines[2].split()[0] == "1" and "0.000  elm -1.00, bay 0.90" in lines[2]
    assert lines[3].endswith("0.100  ash 0.10, elm 0.05")
    assert "0.75 [0.30, 0.95]" in lines[4] and lines[4].endswith("0.200")


def test_the_strongest_are_the_largest_and_not_the_weak():
    assert strongest(np.array([0.1, -3.0, 2.0, 0.59])) == [1, 2]
    assert strongest(np.ones(9)) == list(range(6))
    assert strongest(np.zeros(3)) == []


def test_rows_hold_every_parameter_by_the_name_of_its_variable(found):
    rows = list(report.latent_rows(found, _BEST, ["only"], [7, 8, 9, 10, 11], _NAMES))
    assert [row["level"] for row in rows] == ["2"] * 2 + ["4"] * 3 + ["8"] * 3
    assert [row["is_recommended"] for row in rows] == [True] * 2 + [False] * 6
    assert [row["is_repeated"] for row in rows[2:]] == [True, False, True, "", "", ""]
    assert list(rows[0])[-4:] == ["prior", "failure ash", "failure bay", "failure elm"]
    assert rows[1]["failure bay"] == 1 and rows[4]["prior"] == 0.2
    assert rows[4]["share"] == 0.75 and rows[4]["seed"] in (7, 8, 9, 10)


@pytest.fixture(scope="module")
def calibration():
    """Two data sets of three truths; the second has one of its latents twice."""
    return Calibration(
        np.array([1.0, 0.6, 0.0, 1.0, 0.5, 0.25]),
        np.array([0, 2, -1, 1, 1, -1]),
        np.array([0, 0, 0, 1, 1, 1]),
        np.array([3, 3]),
    )


def test_calibration_counts_latents_and_truths(calibration):
    lines = report.format_calibration(calibration).split("\n")
    counts = [line.split("runs")[1].split()[0] for line in lines[2:5]]
    assert counts == ["5", "4", "2"]
    assert lines[2].split()[-2:] == ["83", "50"]  # 2 of 2 and 2 of 3; 2 and 1 of 3
    assert lines[3].split()[-2:] == ["100", "50"]
    assert "2 redrawn" in lines[5] and "in 100 were true" in lines[5]


def test_calibration_has_intervals_of_several_data_sets_and_words_for_none():
    number = 6
    every = Calibration(
        np.ones(2 * number),
        np.array([0, 1] * 3 + [0, -1] * 3),
        np.repeat(np.arange(number), 2),
        np.full(number, 2),
    )
    text = report.format_calibration(every)
    precision = report.mean_interval([1, 1, 1, 0.5, 0.5, 0.5], (0, 1))
    assert f"{precision.format(0, 100)} in 100 were true" in text
    none = Calibration(*[np.array([])] * 3, np.array([2]))
    assert "nothing recurred" in report.format_calibration(none)


def test_figures_are_drawn_of_all_and_of_nothing(found, calibration, tmp_path):
    (recurs,) = found[4]
    strength = 1 - recurs.latents["failure"]
    drawn = report.plot_latents(recurs, strength, _NAMES, "three", label="P(on)")
    texts = [text.get_text().strip() for axes in drawn.axes for text in axes.texts]
    assert texts == ["bay", "elm", "ash", "elm", "ash", "bay"]
    titles = [axes.get_title() for axes in drawn.axes if axes.get_title()]
    assert titles == ["1: 100% of runs", "2: 100% of runs", "3: 75% of runs"]
    pictures = report.plot_latents(recurs, -strength, None, "three", label="entry")
    shown = pictures.axes[0].images[0]
    assert shown.get_array().shape == (1, 3) and shown.get_clim() == (-1, 1)
    none = {2: [_consensus(2, share=2.0)]}
    report.plot_latents(none[2][0], np.zeros((0, 3)), _NAMES, "none", label="P(on)")
    report.plot_shares(none, 0, 5, "none")
    shares = report.plot_shares(found, 0, 5, "three")
    assert shares.axes[0].get_ylabel() == "share of the other 4 runs"
    matrices = {2: np.full((1, 5, 5), np.nan), 4: np.eye(5)[None]}
    matrix = report.plot_agreement(matrices, 0, "three")
    assert [axes.get_title() for axes in matrix.axes[:2]] == ["2 latents", "4 latents"]
    curve = report.plot_calibration(calibration, "three")
    assert [text.get_text() for text in curve.axes[0].texts] == ["1", "1", "2", "2"]
    report.save(curve, tmp_path / "curve.png")


def test_many_latents_are_cut_and_counted():
    recurs = _consensus(30)
    strength = np.random.default_rng(0).random((30, 16))
    drawn = report.plot_latents(recurs, strength, None, "many", label="P(on)")
    assert "6 more are not drawn" in drawn.get_suptitle()
