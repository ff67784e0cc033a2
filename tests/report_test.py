"""Intervals against their definitions, tables, figures, and the standard report."""

import io
import math
import pathlib
import subprocess
import sys
import types

import matplotlib
import numpy as np
import pytest
from matplotlib import image

from lvm_jax import report
from lvm_jax.types import Recovery, level_name

pytestmark = pytest.mark.filterwarnings("error")

_ELBO = {"held_out_elbo": "ELBO"}
# An error, if it is taken for mathematics.
_NAME = "corpus $x^$"


def _row(level, recovered, **more):
    return {
        "dataset": _NAME,
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


@pytest.fixture
def kept():
    return [
        _row(8, 5),
        _row(8, 0, diverged=True, held_out_elbo=math.nan),
        _row(16, 8, held_out_elbo_is_bound=True),
        # All truths, and one latent too many.
        _row(16, 8, num_kept=9, held_out_elbo_is_bound=True),
    ]


def _without_recovery(rows):
    return [
        {name: row[name] for name in row if not name.startswith("num_")} for row in rows
    ]


def test_summaries_count_diverged_runs_as_failures(kept):
    first, second = report.summarise(kept, 8, list(_ELBO))
    assert (first.level, first.num_runs, first.num_diverged) == ("8", 2, 1)
    assert first.recovered.estimate == 2.5 and first.full.estimate == 0
    assert first.measures["held_out_elbo"].estimate == -12
    assert second.full.estimate == 1 and second.exact_after_filter.estimate == 0.5
    assert first.bounds == frozenset() and second.bounds == {"held_out_elbo"}


def test_a_diverged_run_has_a_count_of_zero_and_no_other_measure():
    rows = [_row(8, 5, num_pairs=6), _row(8, 8, diverged=True, num_pairs=9)]
    (summary,) = report.summarise(rows, 8, ["num_pairs", "held_out_elbo"])
    assert summary.measures["num_pairs"].estimate == 3
    assert summary.measures["held_out_elbo"].estimate == -12
    assert summary.recovered.estimate == 2.5 and summary.full.estimate == 0


def test_summaries_are_of_each_level_and_setting_as_they_come():
    rows = [
        _row(level, recovered, setting=setting)
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
    summaries = report.summarise(kept, 8, list(_ELBO))
    table = report.format_table(summaries, 8, _ELBO).splitlines()[:4]
    assert "at least" in table[-1] and "at least" not in table[-2]
    assert len({len(line) for line in table}) == 1


def test_tables_say_what_intervals_are_over_and_what_diverged_runs_are(kept):
    def below(rows):
        summaries = report.summarise(rows, 8, list(_ELBO))
        return report.format_table(summaries, 8, _ELBO).splitlines()[4:]

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
        _row(8, number, data_seed=seed, seed=run, held_out_elbo=-number, f1=number / 8)
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
    rows = [_row(8, 8, data_seed=seed, seed=run) for seed in (0, 1) for run in (0, 1)]
    rows += [_row(16, number, data_seed=0, held_out_elbo=number) for number in (1, 3)]
    _, alone = report.summarise(rows, 8, list(_ELBO))
    assert alone.num_samples == 1
    assert alone.recovered == report.mean_interval([2], (0, 8))
    assert alone.measures["held_out_elbo"].estimate == 2
    assert math.isnan(alone.measures["held_out_elbo"].low)


def test_means_of_truths_recovered_and_of_measures_stay_within_limits():
    rows = [
        _row(8, number, f1=number / 8, same=0.5, is_tree=number == 7)
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
        summaries = report.summarise(rows, num_truths, list(_ELBO))
        return report.format_table(summaries, num_truths, _ELBO).splitlines()[0].split()

    several = [*kept, _row(8, 5, setting="fast")]
    assert "setting" not in heading(kept, 8) and "recovered" in heading(kept, 8)
    assert heading(several, 8)[:3] == ["level", "setting", "runs"]
    bare = heading(_without_recovery(several), None)
    assert bare == ["level", "setting", "runs", "diverged", "ELBO"]


def test_without_a_truth_summaries_have_no_recovery(kept):
    for row in report.summarise(_without_recovery(kept), None, []):
        assert row.recovered is row.full is None
        assert row.recovered_after_filter is row.exact_after_filter is None


def test_where_all_runs_diverged_measures_are_nan():
    rows = [
        _row(level, 0, setting=setting, diverged=level == 16, held_out_elbo=math.nan)
        for level in (8, 16)
        for setting in ("slow", "fast")
    ]
    summaries = report.summarise(rows, 8, list(_ELBO))
    assert "nan [nan, nan]" in report.format_table(summaries, 8, _ELBO)
    *lines, _ = report.format_differences(rows, 8, _ELBO)
    assert len(lines) == 4


def _results(settings=("slow",), levels=(8, 16), num_truths=8, num_seeds=3):
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
                "dataset": _NAME,
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
        name=_NAME,
        plan=types.SimpleNamespace(levels=levels, settings=dict.fromkeys(settings)),
        epochs=np.arange(1, 5),
        history=history,
        num_truths=num_truths,
        kept_rows=kept_rows,
    )


_SETTINGS = {
    "one": ("$s^$",),
    "three": ("$s^$", "_t", "a=0.5, " * 6),
    "ten": tuple(f"${number}^$" for number in range(10)),
}
_RECOVERY = Recovery(
    matched=np.array([1, -1]),
    kept=np.array([0, 1, 0]),
    discarded=np.array([1, 0, 0]),
    duplicate=np.array([0, 0, 1]),
    num_recovered=1,
    num_kept=1,
    num_recovered_after_filter=1,
    measures={},
)


def _sweep_figures(settings):
    results = _results(settings)
    rows = results.kept_rows(elbo_is_bound=results.history["diverged"][..., -1])
    summaries = report.summarise(rows, 8, [])
    return {
        "full": lambda: report.plot_full_recovery(summaries, _NAME),
        "recovered": lambda: report.plot_recovered(summaries, 8, _NAME),
        "measure": lambda: report.plot_measure(
            rows, "held_out_elbo", label=_NAME, title=_NAME, truth=-11.0
        ),
        "recovered by epoch": lambda: report.plot_recovered_by_epoch(results, 8),
        "by epoch": lambda: report.plot_by_epoch(results, "held_out_elbo", label=_NAME),
    }


_STATES = np.array([[1, 0, 1], [3, 0, 3]])
_NEAREST = np.array([[0, 0, 1], [1, 0, 1]])


def _latent_figures():
    random = np.random.default_rng(0)
    pictures, similarity = random.random((3, 4, 4)), random.uniform(-1, 1, (2, 3))
    words = ["$x^$", "$", "dog"]
    spans = np.array([[0, 2, 1], [0, 1, 0]])
    others = np.array([[0, 2, 3], [1, 2, 0]])
    return {
        "pictures": lambda: report.plot_pictures(
            pictures[:2], pictures, _RECOVERY, _NAME
        ),
        "similarity": lambda: report.plot_similarity(
            similarity, _RECOVERY, _NAME, label=_NAME
        ),
        "moments": lambda: report.plot_moments(
            random.random((2, 3, 16)), _STATES, _NEAREST, [_NAME, "$"], _NAME
        ),
        "trees": lambda: report.plot_trees(
            [words, words[:1]], [spans, spans[:0]], [others, spans[:0]], _NAME
        ),
    }


_FIGURES = {
    **{
        f"{name}, {number}": draw
        for number, settings in _SETTINGS.items()
        for name, draw in _sweep_figures(settings).items()
    },
    **_latent_figures(),
}


def _png(figure):
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=60)
    return file.getvalue()


def _texts(figure):
    return [text.get_text() for text in figure.findobj(matplotlib.text.Text)]


@pytest.mark.parametrize("name", _FIGURES)
def test_figures_are_drawn_alike_anywhere_and_change_nothing(name, tmp_path):
    before = matplotlib.rcParams.copy()
    figure = _FIGURES[name]()
    assert matplotlib.rcParams.copy() == before
    picture = _png(figure)
    with matplotlib.rc_context({"font.size": 20, "axes.grid": True, "grid.alpha": 1}):
        assert _png(figure) == picture
    path = tmp_path / "new" / "figures" / "figure.png"
    report.save(figure, path)
    assert matplotlib.rcParams.copy() == before
    assert image.imread(path).std() > 0.01
    assert [file.name for file in path.parent.iterdir()] == ["figure.png"]
    assert _NAME in " ".join(_texts(figure)).replace("\n", " ")
    corners = figure.get_tightbbox().get_points() / figure.get_size_inches()
    assert np.all((corners > -0.01) & (corners < 1.01))


def test_the_same_figure_makes_the_same_file(tmp_path):
    files = [tmp_path / f"{name}.png" for name in "abc"]
    draw = _FIGURES["measure, three"]
    figure = draw()
    for file, drawn in zip(files, (figure, figure, draw()), strict=True):
        report.save(drawn, file)
    first, *others = [file.read_bytes() for file in files]
    assert all(other == first for other in others)


def test_import_leaves_matplotlib_alone():
    code = (
        "import sys, matplotlib; before = matplotlib.rcParams.copy();"
        "import lvm_jax.report;"
        "assert matplotlib.rcParams.copy() == before;"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    root = pathlib.Path(report.__path__[0]).parents[1]
    subprocess.run([sys.executable, "-c", code], check=True, cwd=root)


def test_settings_are_series_up_to_those_that_can_be_told_apart():
    three, ten = (_FIGURES[f"measure, {number}"]() for number in ("three", "ten"))
    assert "_t" in _texts(three)
    assert "8 of 10 settings" in _texts(ten)
    assert "$7^$" in _texts(ten) and "$8^$" not in _texts(ten)
    (axes,) = _FIGURES["full, one"]().axes
    assert len(axes.containers) == 2  # before and after the filter
    left, right = _FIGURES["full, three"]().axes
    assert len(left.containers) == len(right.containers) == 3


def test_pictures_say_what_each_latent_is():
    texts = _texts(_FIGURES["pictures"]())
    for text in ("truth 1", "truth 2", "not\nrecovered", "discarded", "duplicate"):
        assert texts.count(text) == 1
    assert texts.count("learned") == 1 and "unmatched" not in texts


def test_moments_have_a_column_for_each_latent_and_join_those_that_contend():
    latents = np.stack([np.full((3, 16), value) for value in (0.2, 0.4)])
    latents += 0.1 * np.arange(3)[:, None]
    figure = report.plot_moments(latents, _STATES, _NEAREST, ["early", "late"])
    pictures = [axes.images[0].get_array() for axes in figure.axes]
    # Empty latents are last.
    np.testing.assert_allclose(
        [picture.mean() for picture in pictures], [0.2, 0.4, 0.3, 0.4, 0.6, 0.5]
    )
    assert [len(axes.lines) for axes in figure.axes] == [0, 0, 0, 1, 1, 0]
    frames = [axes.spines["top"].get_edgecolor() for axes in figure.axes]
    assert frames[0] == frames[1] and frames[3] == frames[4]
    assert len({frames[0], frames[2], frames[3]}) == 3
    assert {"early", "late"} <= set(_texts(figure))


def test_similarities_are_in_the_order_of_the_truths():
    similarity = np.array([[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]])
    figure = report.plot_similarity(similarity, _RECOVERY, label="cosine")
    (drawn,) = figure.axes[0].images
    np.testing.assert_array_equal(drawn.get_array(), similarity[:, [1, 0, 2]])
    names = [text.get_text() for text in figure.axes[0].get_xticklabels()]
    assert names == ["1 matched", "1 discarded", "1 duplicate"]
    nothing = _RECOVERY._replace(matched=np.array([-1, -1]))
    figure = report.plot_similarity(similarity, nothing, label="cosine")
    assert not any(text[2:] == "matched" for text in _texts(figure))


def test_spans_of_one_tree_alone_are_red():
    left, right, *_ = _FIGURES["trees"]().axes
    for axes in (left, right):
        assert [text.get_color() for text in axes.texts[:2]] == ["black", "C3"]


def test_words_and_names_may_be_anything(tmp_path):
    """No mathematics, nothing cut off, and no warning of what the font lacks."""
    words = ["a$b", "c$", r"\alpha_{x}^2", "w" * 80, "🎉", "שלום", "مرحبا", "日本"]
    last = len(words) - 1
    spans = np.array([[first, last, 0] for first in range(last)])
    name = r"a$b_$c^ 🎉 \frac{"
    figure = report.plot_trees([words] * 2, [spans] * 2, [spans] * 2, name)
    report.save(figure, tmp_path / "trees.png")
    texts = _texts(figure)
    assert {name, *words} - set(texts) == {"w" * 80}
    assert "w" * 13 + "…" in texts
    with pytest.warns(UserWarning, match="Glyph"):  # which ours do not give
        box = figure.get_tightbbox()
    corners = box.get_points() / figure.get_size_inches()
    assert np.all((corners > -0.01) & (corners < 1.01))


def test_levels_at_which_all_runs_diverged_keep_their_place():
    rows = [_row(8, 0, diverged=True, held_out_elbo=math.nan), _row(16, 8)]
    figure = report.plot_measure(rows, "held_out_elbo", label="nats")
    (axes,) = figure.axes
    assert [text.get_text() for text in axes.get_xticklabels()] == ["8", "16"]
    assert _png(figure)


@pytest.mark.parametrize("values", [[math.inf, -math.inf], [1e308, -1e308, math.nan]])
def test_values_without_measure_are_reported_without_a_warning(tmp_path, values):
    results = _results(settings=("slow", "fast"), num_truths=None)
    history = results.history["held_out_elbo"]
    history[...] = np.resize(values, history.shape)
    results.history["diverged"][0] = True
    text = report.write(results, tmp_path, headers=_ELBO)
    assert "nan [nan, nan]" in text
    assert {path.name for path in tmp_path.iterdir()} == {
        "elbo.png",
        "elbo_by_epoch.png",
    }


def test_figures_of_nothing_are_errors(kept):
    bare = report.summarise(_without_recovery(kept), None, [])
    for summaries in (bare, []):
        with pytest.raises(ValueError, match="expected summaries of recovery"):
            report.plot_full_recovery(summaries)
    with pytest.raises(ValueError, match="expected rows, at least one, got none"):
        report.plot_measure([], "held_out_elbo", label="nats")
    with pytest.raises(ValueError, match=r"a column of train_elbo, .*, got elbo"):
        report.plot_by_epoch(_results(), "elbo", label="nats")


@pytest.mark.parametrize("column", ["held_out_elbo", "num_recovered"])
def test_lines_by_epoch_are_means_of_runs_that_have_not_diverged(column):
    results = _results(("slow", "fast"), num_seeds=3)
    limits = (0, 8) if column == "num_recovered" else None
    figure = report.plot_by_epoch(results, column, label="nats", limits=limits)
    for setting, axes in enumerate(figure.axes):
        assert axes.get_title() == ("slow", "fast")[setting]
        for level, line in enumerate(axes.lines):
            runs = results.history[column][level, setting]
            bad = results.history["diverged"][level, setting]
            if column == "num_recovered":
                bad = np.zeros_like(bad)
            of = [runs[~bad[:, epoch], epoch] for epoch in range(4)]
            expected = [report.mean_interval(values, limits) for values in of]
            np.testing.assert_array_equal(line.get_xdata(), results.epochs)
            np.testing.assert_allclose(line.get_ydata(), np.array(expected)[:, 0])
            (path,) = axes.collections[level].get_paths()
            band = {(round(x, 9), round(y, 9)) for x, y in path.vertices}
            for epoch, (_, low, high) in enumerate(expected, 1):
                assert {(epoch, round(low, 9)), (epoch, round(high, 9))} <= band


def _bars(figure):
    """Lower and upper ends of all error bars."""
    (axes,) = figure.axes
    segments = [bars.lines[2][0].get_segments() for bars in axes.containers]
    return np.array([[ends[0][1], ends[1][1]] for some in segments for ends in some])


def test_figures_by_level_have_the_intervals_of_the_table():
    rows = [
        _row(level, number, seed=run, data_seed=seed, f1=number / 8)
        for level, numbers in ((8, (3, 8, 1, 7, 8, 2)), (16, (8, 8, 7, 6, 8, 8)))
        for seed, number in enumerate(numbers)
        for run in (0, 1)
    ]
    limits = {"f1": (0, 1)}
    for some, words in (
        (rows, "over 6 truths and samples"),
        ([row | {"data_seed": 0} for row in rows], "over runs on one sample"),
    ):
        summaries = report.summarise(some, 8, ["f1"], limits)
        drawn = {
            "f1": report.plot_measure(some, "f1", label="F1", limits=limits["f1"]),
            "full": report.plot_full_recovery(summaries),
            "recovered": report.plot_recovered(summaries, 8),
        }
        for name, figure in drawn.items():
            assert any(words in text for text in _texts(figure))
            expected = [
                row.measures["f1"] if name == "f1" else getattr(row, name)
                for row in summaries
            ]
            np.testing.assert_allclose(
                _bars(figure)[:2], [(low, high) for _, low, high in expected]
            )


def _names(folder):
    return {path.stem for path in folder.iterdir()}


def test_write_draws_what_there_is_and_returns_the_text(tmp_path):
    results = _results(("slow", "fast"))
    text = report.write(results, tmp_path / "figures", truth={"held_out_elbo": -11.0})
    assert _names(tmp_path / "figures") == {
        "full_recovery",
        "recovered",
        "recovered_by_epoch",
        "elbo",
        "elbo_by_epoch",
    }
    rows, headers = results.kept_rows(), {"held_out_elbo": "held out elbo"}
    summaries = report.summarise(rows, 8, list(headers))
    assert text.splitlines() == [
        *report.format_table(summaries, 8, headers).splitlines(),
        *report.format_differences(rows, 8, headers),
    ]
    # One of measures, by level alone; the line of a truth shows.
    with_line = (tmp_path / "figures" / "elbo.png").read_bytes()
    report.write(results, tmp_path / "figures")
    assert (tmp_path / "figures" / "elbo.png").read_bytes() != with_line


def test_write_of_measures_and_without_a_truth(tmp_path):
    results = _results(num_truths=None)
    error = np.arange(6.0).reshape(2, 1, 3)
    text = report.write(
        results,
        tmp_path,
        measures={"test_error": error},
        headers={"test_error": "error"},
        digits=4,
    )
    assert _names(tmp_path) == {"test_error"}
    heading, _, *lines = text.splitlines()
    assert heading.split() == ["level", "runs", "diverged", "error"]
    assert lines[1].split()[3] == "4.0000"  # runs 3, 4 and 5
    assert lines[2].endswith("over runs on one sample")
    assert lines[4].startswith("16 less 8: error +3.0000 [")


def test_write_keeps_intervals_within_limits(tmp_path):
    results = _results(num_truths=None)
    results.history["held_out_f1"] = np.linspace(0.7, 1, 24).reshape(2, 1, 3, 4)
    headers, limits = {"held_out_f1": "F1"}, {"held_out_f1": (0, 1)}
    text = report.write(results, tmp_path, headers=headers, limits=limits)
    assert ", 1.00]" in text.splitlines()[3]
    within = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert ", 1.00]" not in report.write(results, tmp_path, headers=headers)
    assert len(within) == 2
    for name, picture in within.items():
        assert (tmp_path / name).read_bytes() != picture
    with pytest.raises(ValueError, match=r"expected values of 0 to 0\.5, got 0\."):
        report.write(
            results, tmp_path, headers=headers, limits={"held_out_f1": (0, 0.5)}
        )


def test_write_says_what_is_counted_of_latents_of_several_kinds(tmp_path):
    for truths, has_note in ((8, True), (None, False)):
        results = _results(levels=((8, 8), (16, 16)), num_truths=truths)
        text = report.write(results, tmp_path, headers={})
        assert ("of the last kind of latents" in text) == has_note
    assert "16x16 less 8x8" in report.write(results, tmp_path)


def test_write_draws_all_figures_that_can_be_drawn(tmp_path):
    results = _results()
    (tmp_path / "recovered.png").mkdir()  # where no file can be
    results.history["held_out_odd"] = results.history["held_out_elbo"][..., :2]
    with pytest.raises(
        ValueError, match=r"failed: recovered\.png .*, odd_by_epoch\.png"
    ) as error:
        report.write(results, tmp_path)
    assert "\n" not in str(error.value)
    assert "full recovery, %" in error.value.__notes__[0]
    assert {"full_recovery", "recovered_by_epoch", "elbo", "odd"} <= _names(tmp_path)
    assert "odd_by_epoch" not in _names(tmp_path)


def test_write_refuses_headers_that_share_a_file(tmp_path):
    headers = {"held_out_elbo": "ELBO", "elbo": "ELBO"}
    measures = {"elbo": np.zeros((2, 1, 3))}
    with pytest.raises(ValueError, match="expected figures of different names, got"):
        report.write(_results(), tmp_path, measures=measures, headers=headers)
    assert not _names(tmp_path)


def test_pooled_results_are_means_by_sample_and_rows_of_all():
    one, other = _results(), _results()
    other.history["num_recovered"] = 8 - one.history["num_recovered"]
    pooled = report.pool({3: one, 5: other})
    assert pooled.num_truths == 8 and pooled.name == _NAME
    counts = pooled.history["num_recovered"]  # a diverged run has zero
    assert counts.shape == (2, 1, 2, 4)
    for place, part in enumerate((one, other)):
        expected = part.history["num_recovered"].mean(2)
        np.testing.assert_allclose(counts[:, :, place], expected)
        elbo = np.nanmean(part.history["held_out_elbo"], axis=2)
        np.testing.assert_allclose(pooled.history["held_out_elbo"][:, :, place], elbo)
    assert not pooled.history["diverged"].any()
    f1 = np.random.default_rng(0).random((2, 2, 1, 3))
    rows = pooled.kept_rows(f1=f1)
    assert [row["data_seed"] for row in rows] == [3] * 6 + [5] * 6
    assert [row["f1"] for row in rows] == f1.ravel().tolist()
    assert list(rows[0])[:3] == ["dataset", "data_seed", "level"]


def test_a_sample_whose_runs_have_all_diverged_is_marked():
    results = _results()
    results.history["diverged"][1, 0, :, 2:] = True
    pooled = report.pool({0: results, 1: _results()})
    assert pooled.history["diverged"][1, 0].tolist() == [
        [False, False, True, True],
        [False] * 4,
    ]
    assert np.isfinite(pooled.history["held_out_elbo"]).all()


def test_pooled_results_are_reported_over_samples(tmp_path):
    parts = {seed: _results() for seed in range(3)}
    for seed, part in parts.items():
        part.history["num_recovered"] = np.full_like(
            part.history["num_recovered"], 5 + seed
        )
    text = report.write(report.pool(parts), tmp_path)
    assert "over 3 truths and samples" in text and "(paired by data seed)" in text
    assert (tmp_path / "recovered_by_epoch.png").exists()
    with pytest.raises(ValueError, match="at least one sample, got none"):
        report.pool({})
    with pytest.raises(ValueError, match=r"of one plan, .* of data seeds 0, 1"):
        report.pool({0: parts[0], 1: _results(num_truths=7)})


def test_data_sets_stand_side_by_side():
    summaries = report.summarise([_row(8, 5), _row(8, 7), _row(16, 8)], 8, [])
    figure = report.plot_data_sets({"IMG": summaries, "PLNT": summaries[:1]}, 8)
    above, below = figure.axes[:2], figure.axes[2:]
    assert [axes.get_title() for axes in above] == ["IMG", "PLNT"]
    assert [tick.get_text() for tick in below[0].get_xticklabels()] == ["8", "16"]
    line = above[0].lines[0]
    np.testing.assert_allclose(line.get_ydata(), [6, 8])
    np.testing.assert_allclose(below[0].lines[0].get_ydata(), [0, 1])
    with pytest.raises(ValueError, match="summaries of every data set, got none"):
        report.plot_data_sets({"IMG": []}, 8)
