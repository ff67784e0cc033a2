"""Intervals against their definitions, and tables and figures from rows."""

import math

import numpy as np
import pytest
from matplotlib import image
from scipy import stats

from lvm_jax import figures, report
from lvm_jax.types import Recovery


@pytest.mark.parametrize(("count", "total"), [(0, 16), (7, 16), (16, 16), (1, 3)])
def test_share_interval_is_wilsons(count, total):
    z, share = stats.norm.ppf(0.975), count / total
    centre = (share + z**2 / (2 * total)) / (1 + z**2 / total)
    half = (
        z
        / (1 + z**2 / total)
        * math.sqrt(share * (1 - share) / total + z**2 / (4 * total**2))
    )
    interval = report.share_interval(count, total)
    np.testing.assert_allclose(
        interval, (share, centre - half, centre + half), atol=1e-12
    )


def test_mean_interval_covers_the_mean_as_often_as_it_says():
    random = np.random.default_rng(0)
    intervals = [report.mean_interval(random.normal(1.0, 2.0, 5)) for _ in range(2000)]
    covered = np.mean([low <= 1.0 <= high for _, low, high in intervals])
    assert abs(covered - 0.95) < 0.02


def test_difference_interval_is_welchs():
    """By the textbook's degrees of freedom (Welch and Satterthwaite)."""
    random = np.random.default_rng(1)
    values, others = random.normal(2, 1, 7), random.normal(1, 3, 12)
    parts = np.array([values.var(ddof=1) / 7, others.var(ddof=1) / 12])
    freedom = parts.sum() ** 2 / (parts**2 / [6, 11]).sum()
    half = stats.t.ppf(0.975, freedom) * math.sqrt(parts.sum())
    difference = values.mean() - others.mean()
    np.testing.assert_allclose(
        report.difference_interval(values, others),
        (difference, difference - half, difference + half),
    )


def test_mean_interval_of_one_value_has_no_bounds():
    estimate, low, high = report.mean_interval([3.0])
    assert estimate == 3.0 and math.isnan(low) and math.isnan(high)


def _row(level, recovered, **more):
    return {
        "level": level,
        "num_recovered": recovered,
        "num_kept": recovered,
        "num_recovered_after_filter": recovered,
        "diverged": False,
        "held_out_elbo": -12.0,
        **more,
    }


@pytest.fixture
def kept():
    return [
        _row(8, 5),
        _row(8, 0, diverged=True, held_out_elbo=math.nan),
        _row(16, 8, held_out_elbo_is_bound=True),
        # All truths, and one latent too many.
        _row(16, 8, num_kept=9, held_out_elbo_is_bound=True),
    ]


def test_summaries_count_diverged_runs_as_failures(kept):
    first, second = report.summarise(kept, 8, ["held_out_elbo"])
    assert (first.level, first.num_runs, first.num_diverged) == ("8", 2, 1)
    assert first.recovered.estimate == 2.5 and first.full.estimate == 0
    assert first.measures["held_out_elbo"].estimate == -12
    assert second.full.estimate == 1 and second.exact_after_filter.estimate == 0.5


def test_a_diverged_run_has_a_count_of_zero_and_no_other_measure():
    rows = [_row(8, 5, num_pairs=6), _row(8, 0, diverged=True, num_pairs=0)]
    (summary,) = report.summarise(rows, 8, ["num_pairs", "held_out_elbo"])
    assert summary.measures["num_pairs"].estimate == 3
    assert summary.measures["held_out_elbo"].estimate == -12


def test_table_labels_bounds(kept):
    summaries = report.summarise(kept, 8, ["held_out_elbo"])
    table = report.format_table(summaries, 8, {"held_out_elbo": "ELBO"}).splitlines()
    assert "at least" in table[-1] and "at least" not in table[-2]
    assert len({len(line) for line in table}) == 1


def test_differences_are_to_the_first_level_and_leave_bounds_out(kept):
    more = _row(32, 7, held_out_elbo=-11.0)
    headers = {"held_out_elbo": "ELBO"}
    wider, widest = report.format_differences([*kept, more], headers)
    assert wider == "16 less 8: recovered +5.50 [-26.27, +37.27]"
    assert widest == (
        "32 less 8: recovered +4.50 [+nan, +nan], ELBO +1.00 [+nan, +nan]"
    )
    assert report.format_differences(kept[:2], headers) == []


def test_figures_are_drawn(kept, tmp_path):
    summaries = report.summarise(kept, 8, ["held_out_elbo"])
    history = [row | {"epoch": e} for row in kept for e in (1, 2)]
    recovery = Recovery(
        matched=np.array([1, -1]),
        kept=np.array([0, 1, 0]),
        discarded=np.array([1, 0, 0]),
        duplicate=np.array([0, 0, 1]),
        num_recovered=1,
        num_kept=1,
        num_recovered_after_filter=1,
        measures={},
    )
    pictures = np.random.default_rng(0).random((3, 4, 4))
    draw = {
        "full": lambda p: figures.plot_full_recovery(summaries, p, "IMG"),
        "measure": lambda p: figures.plot_measure(
            kept, "held_out_elbo", p, label="nats", title="IMG", truth=-11.0
        ),
        "epochs": lambda p: figures.plot_recovered_by_epoch(history, 8, p, "IMG"),
        "pictures": lambda p: figures.plot_pictures(
            pictures[:2], pictures, recovery, p, "IMG"
        ),
    }
    for name, plot in draw.items():
        path = tmp_path / "figures" / f"{name}.png"
        plot(path)
        assert image.imread(path).std() > 0.01, name
