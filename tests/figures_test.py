"""Figures of sweeps and of models."""

import io
import math
import pathlib
import subprocess
import sys

import matplotlib
import numpy as np
import pytest
from matplotlib import image
from report_rows import ELBO, NAME, make_results, make_row, without_recovery

from lvm_jax import report
from lvm_jax.types import Recovery

pytestmark = pytest.mark.filterwarnings("error")

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
    results = make_results(settings)
    rows = results.kept_rows(elbo_is_bound=results.history["diverged"][..., -1])
    summaries = report.summarise(rows, 8, [])
    return {
        "full": lambda: report.plot_full_recovery(summaries, NAME),
        "recovered": lambda: report.plot_recovered(summaries, 8, NAME),
        "measure": lambda: report.plot_measure(
            rows, "held_out_elbo", label=NAME, title=NAME, truth=-11.0
        ),
        "recovered by epoch": lambda: report.plot_recovered_by_epoch(results, 8),
        "by epoch": lambda: report.plot_by_epoch(results, "held_out_elbo", label=NAME),
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
            pictures[:2], pictures, _RECOVERY, NAME
        ),
        "similarity": lambda: report.plot_similarity(
            similarity, _RECOVERY, NAME, label=NAME
        ),
        "moments": lambda: report.plot_moments(
            random.random((2, 3, 16)), _STATES, _NEAREST, [NAME, "$"], NAME
        ),
        "trees": lambda: report.plot_trees(
            [words, words[:1]], [spans, spans[:0]], [others, spans[:0]], NAME
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
    assert NAME in " ".join(_texts(figure)).replace("\n", " ")
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
    assert "1 unmatched" in _texts(figure)


def test_padding_is_not_drawn():
    padded = Recovery(
        *(np.append(leaf, 0) if np.ndim(leaf) else leaf for leaf in _RECOVERY[:-1]),
        measures={},
    )._replace(matched=_RECOVERY.matched)
    similarity = np.arange(8.0).reshape(2, 4) / 8
    figure = report.plot_similarity(similarity, padded, label="cosine")
    (drawn,) = figure.axes[0].images
    np.testing.assert_array_equal(drawn.get_array(), similarity[:, [1, 0, 2]])


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
    rows = [make_row(8, 0, diverged=True, held_out_elbo=math.nan), make_row(16, 8)]
    figure = report.plot_measure(rows, "held_out_elbo", label="nats")
    (axes,) = figure.axes
    assert [text.get_text() for text in axes.get_xticklabels()] == ["8", "16"]
    assert _png(figure)


@pytest.mark.parametrize("values", [[math.inf, -math.inf], [1e308, -1e308, math.nan]])
def test_values_without_measure_are_reported_without_a_warning(tmp_path, values):
    results = make_results(settings=("slow", "fast"), num_truths=None)
    history = results.history["held_out_elbo"]
    history[...] = np.resize(values, history.shape)
    results.history["diverged"][0] = True
    text = report.write(results, tmp_path, headers=ELBO)
    assert "nan [nan, nan]" in text
    assert {path.name for path in tmp_path.iterdir()} == {
        "elbo.png",
        "elbo_by_epoch.png",
    }


def test_figures_of_nothing_are_errors():
    bare = report.summarise(without_recovery([make_row(8, 5)]), None, [])
    for summaries in (bare, []):
        with pytest.raises(ValueError, match="expected summaries of recovery"):
            report.plot_full_recovery(summaries)
    with pytest.raises(ValueError, match="expected rows, at least one, got none"):
        report.plot_measure([], "held_out_elbo", label="nats")
    with pytest.raises(ValueError, match=r"a column of train_elbo, .*, got elbo"):
        report.plot_by_epoch(make_results(), "elbo", label="nats")


@pytest.mark.parametrize("column", ["held_out_elbo", "num_recovered"])
def test_lines_by_epoch_are_means_of_runs_that_have_not_diverged(column):
    results = make_results(("slow", "fast"), num_seeds=3)
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
        make_row(level, number, seed=run, data_seed=seed, f1=number / 8)
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


def test_data_sets_stand_side_by_side():
    summaries = report.summarise(
        [make_row(8, 5), make_row(8, 7), make_row(16, 8)], 8, []
    )
    figure = report.plot_data_sets({"IMG": summaries, "PLNT": summaries[:1]}, 8)
    above, below = figure.axes[:2], figure.axes[2:]
    assert [axes.get_title() for axes in above] == ["IMG", "PLNT"]
    assert [tick.get_text() for tick in below[0].get_xticklabels()] == ["8", "16"]
    line = above[0].lines[0]
    np.testing.assert_allclose(line.get_ydata(), [6, 8])
    np.testing.assert_allclose(below[0].lines[0].get_ydata(), [0, 1])
    with pytest.raises(ValueError, match="summaries of every data set, got none"):
        report.plot_data_sets({"IMG": []}, 8)
