"""Comparisons of levels and settings against scipy, enumeration and hand counts."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from lvm_jax import report
from lvm_jax.files import table

pytestmark = pytest.mark.filterwarnings("error")

_ELBO = {"held_out_elbo": "ELBO"}
_TRUTHS = 0, 8


def _row(level, recovered, **more):
    return {
        "dataset": "corpus",
        "level": str(level),
        "setting": "slow",
        "seed": 0,
        "num_recovered": recovered,
        "num_kept": recovered,
        "num_recovered_after_filter": recovered,
        "diverged": False,
        "held_out_elbo": -12.0,
        **more,
    }


def _runs(level, recovered, **more):
    return [_row(level, number, seed=k, **more) for k, number in enumerate(recovered)]


def test_levels_on_one_sample_are_compared_by_welch():
    random = np.random.default_rng(0)
    values, others = random.binomial(8, 0.8, 9), random.binomial(8, 0.5, 12)
    comparison = report.compare(
        _runs(16, values), _runs(8, others), "num_recovered", _TRUTHS
    )
    test = stats.ttest_ind(values, others, equal_var=False)
    difference = values.mean() - others.mean()
    expected = difference, *test.confidence_interval(0.95), test.pvalue
    np.testing.assert_allclose(comparison[:4], expected)
    assert comparison.kind == "Welch" and comparison.p_value < 0.05
    less = report.compare(_runs(8, others), _runs(16, values), "num_recovered")
    np.testing.assert_allclose(
        (less.low, less.p_value), (-comparison.high, test.pvalue)
    )


def test_shares_of_levels_are_compared_by_newcombe_and_fisher():
    """Fisher's p value: all tables of these margins that are no more likely."""
    values, others = [8] * 7 + [3] * 3, [8] * 2 + [5] * 7 + [8]
    rows = report.add_shares(_runs(16, values) + _runs(8, others), 8)
    rows[-1] = rows[-1] | {"diverged": True}  # which has recovered nothing
    comparison = report.compare(rows[:10], rows[10:], "full")
    ways = [math.comb(10, k) * math.comb(10, 9 - k) for k in range(10)]
    p_value = sum(way for way in ways if way <= ways[7]) / sum(ways)
    np.testing.assert_allclose(
        comparison[:4], (*report.share_difference_interval(7, 10, 2, 10), p_value)
    )
    assert comparison.kind == "Newcombe, Fisher"


def test_settings_of_a_level_are_paired_by_seed():
    values, others = [8, 7, 5, 8, 6], [6, 7, 4, 5, 5]
    rows, partners = _runs(8, values), _runs(8, others, setting="fast")
    partners = [partners[place] for place in (3, 1, 4, 0, 2)]
    comparison = report.compare(rows, partners, "num_recovered", _TRUTHS)
    assert comparison == (
        *report.paired_interval(values, others, _TRUTHS),
        pytest.approx(stats.ttest_rel(values, others).pvalue),
        "paired by seed",
    )
    shares = report.add_shares(rows, 8), report.add_shares(partners, 8)
    assert report.compare(*shares, "full")[:3] == report.mean_interval(
        [1, 0, 0, 1, 0], (-1, 1)
    )
    alone = report.compare(rows[:4], partners[:3], "num_recovered", _TRUTHS)
    assert alone[:3] == report.paired_interval([7, 8], [7, 5], _TRUTHS)
    with pytest.raises(ValueError, match="expected one run of a seed, got 2 of 4"):
        report.compare([*rows, rows[-1]], partners, "num_recovered")


def test_a_diverged_run_leaves_its_partner_out_of_measures_and_not_of_counts():
    elbos, others = [-9.0, -8.0, -7.5, -3.0], [-9.5, -9.0, -8.0, -2.0]
    rows, partners = (
        [_row(8, 4, seed=k, setting=name, held_out_elbo=x) for k, x in enumerate(of)]
        for name, of in (("slow", elbos), ("fast", others))
    )
    rows[3]["diverged"] = True
    measure = report.compare(rows, partners, "held_out_elbo")
    test = stats.ttest_rel(elbos[:3], others[:3])
    np.testing.assert_allclose(
        measure[:4], (2 / 3, *test.confidence_interval(0.95), test.pvalue)
    )
    count = report.compare(rows, partners, "num_recovered")
    assert count.estimate == -1


def _sampled(level, recovered, **more):
    """Runs of each data seed."""
    return [
        _row(level, number, seed=run, data_seed=seed, **more)
        for seed, numbers in recovered.items()
        for run, number in enumerate(numbers)
    ]


@pytest.mark.parametrize("level", [8, 16])
def test_several_samples_are_paired_by_data_seed(level):
    values = {0: (8, 8), 1: (7, 5), 2: (8, 6), 3: (8, 3), 4: (6, 8), 9: (8, 8)}
    others = {4: (2, 7), 1: (4, 5), 3: (7, 7), 0: (6, 4), 2: (7, 3)}
    rows, partners = _sampled(level, values), _sampled(8, others, setting="fast")
    comparison = report.compare(rows, partners, "num_recovered", _TRUTHS)
    means = [8, 6, 7, 5.5, 7], [5, 4.5, 5, 7, 4.5]
    assert comparison == (
        *report.paired_interval(*means, _TRUTHS),
        pytest.approx(stats.ttest_rel(*means).pvalue),
        "paired by data seed",
    )
    shares = report.add_shares(rows, 8), report.add_shares(partners, 8)
    differences = [1, 0, 0.5, 0.5, 0.5]
    assert report.compare(*shares, "full")[:3] == report.mean_interval(
        differences, (-1, 1)
    )
    again = report.compare(rows + rows, partners + partners, "num_recovered", _TRUTHS)
    assert again == comparison


def test_p_values_of_equal_values_are_one_or_cannot_be_said():
    def p_value(level, values, others):
        comparison = report.compare(
            _runs(level, values), _runs(8, others), "num_recovered"
        )
        return comparison.p_value

    for level in (8, 16):
        assert p_value(level, [5, 5, 5], [5, 5, 5]) == 1
        assert math.isnan(p_value(level, [5, 5, 5], [4, 4, 4]))
    assert p_value(8, [5, 6, 7], [5, 6, 7]) == 1
    assert math.isnan(p_value(8, [5, 6, 7], [4, 5, 6]))
    assert math.isnan(p_value(16, [5], [4, 5, 6]))
    assert math.isnan(p_value(16, [5, 6], [4]))
    assert 0 < p_value(16, [5, 5, 5], [4, 3, 4]) < 0.1


def test_equal_differences_of_shares_are_equal_in_spite_of_rounding():
    assert 4 / 5 - 3 / 5 != 1 / 5
    rows = _sampled(16, {0: (8, 8, 8, 8, 1), 1: (8, 1, 1, 1, 1)})
    others = _sampled(8, {0: (8, 8, 8, 1, 1), 1: (1, 1, 1, 1, 1)})
    shares = report.add_shares(rows, 8), report.add_shares(others, 8)
    comparison = report.compare(*shares, "full")
    assert math.isnan(comparison.p_value)
    expected = report.mean_interval([0.2, 0.2], (-1, 1))
    np.testing.assert_allclose(comparison[:3], expected)


def test_nothing_to_compare_is_nan():
    rows = _runs(16, [8, 8])
    for others in ([], [row | {"diverged": True} for row in _runs(8, [4, 4])]):
        comparison = report.compare(rows, others, "held_out_elbo")
        np.testing.assert_array_equal(comparison[1:4], [math.nan] * 3)


def test_a_column_that_rows_lack_is_an_error():
    with pytest.raises(ValueError, match="expected a column f1, got dataset"):
        report.compare(_runs(16, [8]), _runs(8, [8]), "f1")


def test_rows_that_are_read_back_are_compared_alike(tmp_path):
    rows = _sampled(16, {0: (8, 2), 1: (8, 8), 2: (3, 4)}, held_out_elbo=0.1)
    rows += _sampled(8, {0: (1, 2), 1: (8, 7), 2: (5, 0)}, held_out_elbo=math.pi)
    rows[1]["diverged"] = True
    table.write_rows(tmp_path / "kept.csv", rows)
    back = report.read_rows(tmp_path / "kept.csv")
    for name in ("num_recovered", "held_out_elbo", "full"):
        first, second = (
            report.compare(some[:6], some[6:], name, _TRUTHS)
            for some in (report.add_shares(of, 8) for of in (rows, back))
        )
        assert first == second


def test_holm_adjusts_a_published_example():
    """Wikipedia, Holm-Bonferroni method: the first and the last are rejected."""
    adjusted = report.holm([0.01, 0.04, 0.03, 0.005])
    np.testing.assert_allclose(adjusted, [0.03, 0.06, 0.06, 0.02])


def test_holm_is_the_closure_of_bonferroni():
    """A hypothesis is rejected where Bonferroni rejects every set that has it."""
    random = np.random.default_rng(7)
    for number in (1, 2, 5):
        p_values = random.random(number) ** 3
        p_values[-1] = p_values[0]
        sets = [
            [k for k in range(number) if chosen >> k & 1]
            for chosen in range(1, 2**number)
        ]
        bonferroni = [min(1, len(s) * min(p_values[s])) for s in sets]
        expected = [
            max(p for p, some in zip(bonferroni, sets, strict=True) if k in some)
            for k in range(number)
        ]
        np.testing.assert_allclose(report.holm(p_values), expected)


def test_an_unknown_p_value_counts_in_its_family():
    np.testing.assert_allclose(
        report.holm([0.02, math.nan, 0.5]), [0.06, math.nan, 1.0]
    )
    assert report.holm([]) == []


def _parts(line):
    title, parts = line.split(": ", 1)
    return title, parts.split("; ")


def test_differences_are_to_the_first_level_and_leave_bounds_out():
    rows = _runs(8, [5, 3, 6], held_out_elbo=-12.5)
    rows += _runs(16, [8, 7, 8], held_out_elbo_is_bound=True)
    rows += _runs(32, [7, 7, 5], held_out_elbo=-11.0)
    *lines, note = report.format_differences(rows, 8, _ELBO, digits=1)
    of_levels = [rows[place : place + 3] for place in (0, 3, 6)]
    comparisons = [
        report.compare(some, of_levels[0], "num_recovered", _TRUTHS)
        for some in of_levels[1:]
    ]
    p_values = report.holm([comparison.p_value for comparison in comparisons])
    assert p_values[0] > comparisons[0].p_value + 0.01
    for line, title, comparison, p_value in zip(
        lines, ("16 less 8", "32 less 8"), comparisons, p_values, strict=True
    ):
        estimate, low, high = comparison[:3]
        found, parts = _parts(line)
        assert found == title
        assert parts[0] == (
            f"recovered {estimate:+.2f} [{low:+.2f}, {high:+.2f}], "
            f"p = {p_value:.3f} (Welch)"
        )
        assert parts[1].startswith("full recovery, % +")
        assert parts[1].endswith("p = 0.800 (Newcombe, Fisher)") == (title[0] == "1")
    assert len(_parts(lines[0])[1]) == 2
    assert _parts(lines[1])[1][2] == "ELBO +1.5 [+nan, +nan], p = nan (Welch)"
    assert note.endswith("in a column: recovered 2; full recovery, % 2; ELBO 1")
    assert report.format_differences(rows[:3], 8, _ELBO) == []
    assert report.format_differences([], 8, _ELBO) == []


def test_differences_without_a_truth_are_of_measures_alone():
    rows = [*_runs(8, [5, 3]), _row(32, 7, held_out_elbo=-11.0)]
    line, note = report.format_differences(rows, None, _ELBO, digits=1)
    assert line == "32 less 8: ELBO +1.0 [+nan, +nan], p = nan (Welch)"
    assert note.endswith("in a column: ELBO 1")
    assert report.format_differences(rows, None, {}) == []


def test_differences_of_measures_stay_within_their_limits():
    rows = _runs(8, [5, 3], f1=0.2) + _runs(16, [5, 3], f1=0.9)
    line, _ = report.format_differences(rows, None, {"f1": "F1"}, {"f1": (0, 1)})
    expected = report.difference_interval([0.9] * 2, [0.2] * 2, (0, 1))
    assert line.startswith(f"16 less 8: F1 {expected.format(2, sign='+')}, p = nan")


def test_differences_say_what_they_are_of():
    names = itertools.product((8, 16), ("slow", "fast", "mad"))
    rows = [
        row
        for level, setting in names
        for row in _runs(level, [1, 2, level // 4], setting=setting)
    ]
    *lines, note = report.format_differences(rows, 8, {})
    assert [_parts(line)[0] for line in lines] == [
        "16 less 8 at setting slow",
        "16 less 8 at setting fast",
        "16 less 8 at setting mad",
        "setting fast less slow at level 8",
        "setting mad less slow at level 8",
        "setting fast less slow at level 16",
        "setting mad less slow at level 16",
    ]
    kinds = [part.rsplit("(", 1)[1] for line in lines for part in _parts(line)[1]]
    assert kinds == ["Welch)", "Newcombe, Fisher)"] * 3 + ["paired by seed)"] * 8
    assert note.endswith("recovered 7; full recovery, % 7")
    sampled = [row | {"data_seed": k} for row in rows for k in (1, 2)]
    *lines, _ = report.format_differences(sampled, 8, {})
    assert all(line.count("(paired by data seed)") == 2 for line in lines)


def test_small_p_values_are_not_written_as_zero():
    rows = _runs(8, [1, 2] * 10) + _runs(16, [7, 8] * 10)
    line, _ = report.format_differences(rows, None, {"num_recovered": "found"})
    assert "p < 0.001 (Welch)" in line
