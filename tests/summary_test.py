"""Summaries of rows, and their tables."""

import math

import numpy as np
import pytest
from report_rows import ELBO, make_row, without_recovery

from lvm_jax import report

pytestmark = pytest.mark.filterwarnings("error")


@pytest.fixture
def kept():
    return [
        make_row(8, 5),
        make_row(8, 0, diverged=True, held_out_elbo=math.nan),
        make_row(16, 8, held_out_elbo_is_bound=True),
        # All truths, and one latent too many.
        make_row(16, 8, num_kept=9, held_out_elbo_is_bound=True),
    ]


def test_summaries_count_diverged_runs_as_failures(kept):
    first, second = report.summarise(kept, 8, list(ELBO))
    assert (first.level, first.num_runs, first.num_diverged) == ("8", 2, 1)
    assert first.recovered.estimate == 2.5 and first.full.estimate == 0
    assert first.measures["held_out_elbo"].estimate == -12
    assert second.full.estimate == 1 and second.exact_after_filter.estimate == 0.5
    assert first.bounds == frozenset() and second.bounds == {"held_out_elbo"}


def test_a_diverged_run_has_a_count_of_zero_and_no_other_measure():
    rows = [make_row(8, 5, num_pairs=6), make_row(8, 8, diverged=True, num_pairs=9)]
    (summary,) = report.summarise(rows, 8, ["num_pairs", "held_out_elbo"])
    assert summary.measures["num_pairs"].estimate == 3
    assert summary.measures["held_out_elbo"].estimate == -12
    assert summary.recovered.estimate == 2.5 and summary.full.estimate == 0


def test_summaries_are_of_each_level_and_setting_as_they_come():
    rows = [
        make_row(level, recovered, setting=setting)
        for level, setting, recovered in [
            (16, "slow", 1),
            (16, "fast", 2),
            (8, "slow", 3),
            (16, "slow", 5),
            (8, "fast", 4),
        ]
    ]
    assert [
        (row.level, row.setting, row.num_runs, row.recovered.estimate)
        for row in report.summarise(rows, 8, [])
    ] == [
        ("16", "slow", 2, 3),
        ("16", "fast", 1, 2),
        ("8", "slow", 1, 3),
        ("8", "fast", 1, 4),
    ]


def test_a_measure_that_rows_lack_is_an_error(kept):
    with pytest.raises(ValueError, match="expected a column elbo, got dataset, level"):
        report.summarise(kept, 8, ["elbo"])


def test_table_labels_bounds(kept):
    summaries = report.summarise(kept, 8, list(ELBO))
    table = report.format_table(summaries, 8, ELBO).splitlines()[:4]
    assert "at least" in table[-1] and "at least" not in table[-2]
    assert len({len(line) for line in table}) == 1


def test_tables_say_what_intervals_are_over_and_what_diverged_runs_are(kept):
    def below(rows):
        summaries = report.summarise(rows, 8, list(ELBO))
        return report.format_table(summaries, 8, ELBO).splitlines()[4:]

    first, second = below(kept)
    assert first == "95% intervals of means and shares over runs on one sample"
    assert second == (
        "a diverged run has zero of what is counted, and is in no other mean"
    )
    rows = [row | {"diverged": False} for row in kept]
    assert below(rows) == [first]
    assert below([row | {"data_seed": 3} for row in rows]) == [first]
    (line,) = below([row | {"data_seed": k} for row in rows for k in (3, 4, 7)])
    assert line == "95% intervals of means and shares over 3 truths and samples"
    (line,) = below([row | {"data_seed": k // 2} for k, row in enumerate(rows, 1)])
    assert line.endswith("over 2 truths and samples")


def test_runs_of_one_data_seed_are_one_observation():
    recovered = {0: (8, 8, 6), 1: (4, 5, 8), 2: (8, 7, 7), 3: (2, 8, 1), 4: (8, 8, 8)}
    rows = [
        make_row(
            8, number, data_seed=seed, seed=run, held_out_elbo=-number, f1=number / 8
        )
        for seed, numbers in recovered.items()
        for run, number in enumerate(numbers)
    ]
    names, limits = ["held_out_elbo", "f1"], {"f1": (0, 1)}
    (summary,) = report.summarise(rows, 8, names, limits)
    means = [np.mean(numbers) for numbers in recovered.values()]
    shares = [np.mean(np.equal(numbers, 8)) for numbers in recovered.values()]
    assert (summary.num_runs, summary.num_samples) == (15, 5)
    assert summary.recovered == report.mean_interval(means, (0, 8))
    assert summary.full == report.mean_interval(shares, (0, 1))
    np.testing.assert_allclose(
        summary.measures["f1"], np.divide(summary.recovered, 8), atol=1e-8
    )
    np.testing.assert_allclose(
        summary.measures["held_out_elbo"], report.mean_interval(np.negative(means))
    )
    (twice,) = report.summarise([*rows, *rows], 8, names, limits)
    assert twice == summary._replace(num_runs=30)
    bare = [{**row, "data_seed": 0} for row in rows]
    once, twice = (report.summarise(some, 8, [])[0] for some in (bare, bare + bare))
    assert twice.num_samples is None
    assert twice.full.high - twice.full.low < 0.8 * (once.full.high - once.full.low)


def test_a_group_of_one_sample_of_several_has_one_observation():
    rows = [
        make_row(8, 8, data_seed=seed, seed=run) for seed in (0, 1) for run in (0, 1)
    ]
    rows += [
        make_row(16, number, data_seed=0, held_out_elbo=number) for number in (1, 3)
    ]
    _, alone = report.summarise(rows, 8, list(ELBO))
    assert alone.num_samples == 1
    assert alone.recovered == report.mean_interval([2], (0, 8))
    assert alone.measures["held_out_elbo"].estimate == 2
    assert math.isnan(alone.measures["held_out_elbo"].low)


def test_means_of_truths_recovered_and_of_measures_stay_within_limits():
    rows = [
        make_row(8, number, f1=number / 8, same=0.5, is_tree=number == 7)
        for number in (8, 8, 7, 8, 2)
    ]
    limits = {"f1": (0, 1), "same": (0, 1)}
    (summary,) = report.summarise(rows, 8, ["f1", "same", "is_tree"], limits)
    assert summary.recovered == report.mean_interval([8, 8, 7, 8, 2], (0, 8))
    assert summary.recovered_after_filter.high <= 8 and summary.recovered.high <= 8
    np.testing.assert_allclose(
        summary.measures["f1"], np.divide(summary.recovered, 8), atol=1e-8
    )
    assert summary.measures["same"] == report.mean_interval([0.5] * 5, (0, 1))
    assert summary.measures["is_tree"] == report.share_interval(1, 5)
    (summary,) = report.summarise(rows, None, ["f1", "same"])
    assert summary.measures["f1"].high > 1 and math.isnan(summary.measures["same"].low)


def test_table_has_columns_for_settings_and_recovery_where_there_are_some(kept):
    def heading(rows, num_truths):
        summaries = report.summarise(rows, num_truths, list(ELBO))
        return report.format_table(summaries, num_truths, ELBO).splitlines()[0].split()

    several = [*kept, make_row(8, 5, setting="fast")]
    assert "setting" not in heading(kept, 8) and "recovered" in heading(kept, 8)
    assert heading(several, 8)[:3] == ["level", "setting", "runs"]
    bare = heading(without_recovery(several), None)
    assert bare == ["level", "setting", "runs", "diverged", "ELBO"]


def test_without_a_truth_summaries_have_no_recovery(kept):
    for row in report.summarise(without_recovery(kept), None, []):
        assert row.recovered is row.full is None
        assert row.recovered_after_filter is row.exact_after_filter is None


def test_where_all_runs_diverged_measures_are_nan():
    rows = [
        make_row(
            level, 0, setting=setting, diverged=level == 16, held_out_elbo=math.nan
        )
        for level in (8, 16)
        for setting in ("slow", "fast")
    ]
    summaries = report.summarise(rows, 8, list(ELBO))
    assert "nan [nan, nan]" in report.format_table(summaries, 8, ELBO)
    *lines, _ = report.format_differences(rows, 8, ELBO)
    assert len(lines) == 4
