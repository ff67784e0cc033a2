"""The standard report, of results and of results pooled."""

import types

import numpy as np
import pytest
from report_rows import NAME, make_results

from lvm_jax import report

pytestmark = pytest.mark.filterwarnings("error")


def _names(folder):
    return {path.stem for path in folder.iterdir()}


def test_write_draws_what_there_is_and_returns_the_text(tmp_path):
    results = make_results(("slow", "fast"))
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
    results = make_results(num_truths=None)
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
    results = make_results(num_truths=None)
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
        results = make_results(levels=((8, 8), (16, 16)), num_truths=truths)
        text = report.write(results, tmp_path, headers={})
        assert ("of the last kind of latents" in text) == has_note
    assert "16x16 less 8x8" in report.write(results, tmp_path)


def test_write_draws_all_figures_that_can_be_drawn(tmp_path):
    results = make_results()
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
        report.write(make_results(), tmp_path, measures=measures, headers=headers)
    assert not _names(tmp_path)


def test_pooled_results_are_means_by_sample_and_rows_of_all():
    one, other = make_results(), make_results()
    other.history["num_recovered"] = 8 - one.history["num_recovered"]
    pooled = report.pool({3: one, 5: other})
    assert pooled.num_truths == 8 and pooled.name == NAME
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
    results = make_results()
    results.history["diverged"][1, 0, :, 2:] = True
    pooled = report.pool({0: results, 1: make_results()})
    assert pooled.history["diverged"][1, 0].tolist() == [
        [False, False, True, True],
        [False] * 4,
    ]
    assert np.isfinite(pooled.history["held_out_elbo"]).all()


def test_pooled_results_are_reported_over_samples(tmp_path):
    parts = {seed: make_results() for seed in range(3)}
    for seed, part in parts.items():
        part.history["num_recovered"] = np.full_like(
            part.history["num_recovered"], 5 + seed
        )
    text = report.write(report.pool(parts), tmp_path)
    assert "over 3 truths and samples" in text and "(paired by data seed)" in text
    assert (tmp_path / "recovered_by_epoch.png").exists()
    plan = parts[1].plan.expanded()
    loaded = types.SimpleNamespace(**{**vars(parts[1]), "plan": plan})
    assert loaded.plan != parts[1].plan  # as `lvm_jax.load` has it
    report.pool({0: parts[0], 1: loaded})
    with pytest.raises(ValueError, match="at least one sample, got none"):
        report.pool({})
    with pytest.raises(ValueError, match=r"of one plan, .* of data seeds 0, 1"):
        report.pool({0: parts[0], 1: make_results(num_truths=7)})
