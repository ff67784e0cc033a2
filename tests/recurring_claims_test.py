"""The study of what recurs: its data, its rows, and verdicts that follow its tables."""

import numpy as np
import pytest
from sweep_process import check_refused, run

import lvm_jax
from experiments import hard_truths
from experiments import recurring_claims as claims
from experiments.cli.tables import Tables
from lvm_jax import noisy_or
from lvm_jax.files import table


def _samples(name, num_samples=4000):
    """Of a key of which latents 0, 1, 3 and 6 have children of their own."""
    made = hard_truths.make(name, lvm_jax.key(13), num_samples)
    assert made.samples.shape == (num_samples, 64)
    return np.asarray(made.samples, float), made.truth


def _expected_on(truth):
    """[D]. P(x = 1), by independence of latents."""
    each = 1 - np.asarray(truth.prior)[:, None] * (1 - np.asarray(truth.failure))
    return 1 - each.prod(0) * np.asarray(truth.noise)


def test_independent_variables_have_marginals_and_no_correlation():
    x, truth = _samples("INDEPENDENT")
    assert truth is None
    assert abs(np.corrcoef(x.T) - np.eye(64)).max() < 5 / len(x) ** 0.5
    assert 0.1 < x.mean() < 0.7 and x.mean(0).std() > 0.05


@pytest.mark.parametrize("name", ["ONE-CHILD", "DUPLICATES"])
def test_networks_have_samples_of_their_truth(name):
    x, truth = _samples(name)
    np.testing.assert_allclose(x.mean(0), _expected_on(truth), atol=0.04)
    children = np.asarray(truth.failure) < 0.5
    if name == "ONE-CHILD":
        assert children[:2].sum(1).tolist() == [1, 1]
    else:
        assert (children[0] == children[1]).all() and children[0].sum() > 4


def test_twins_are_on_together_and_correlated_latents_more_often_than_alone():
    for name, pair in (("TWINS", (0, 1)), ("CORRELATED", (0, 3))):
        x, truth = _samples(name)
        children = np.asarray(truth.failure) < 0.5
        own = [children[k] & ~np.delete(children, k, 0).any(0) for k in (*pair, 6)]
        first, second, other = (x[:, of].mean(1) > 0.5 for of in own)
        assert np.corrcoef(first, second)[0, 1] > 0.1
        assert abs(np.corrcoef(first, other)[0, 1]) < 0.08


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--dataset=TWINS", "--study_rates"], "a data set of the study, got TWINS"),
        (["--dataset=PLNT", "--data_seed=0,1"], "--data_dir to read PLNT from"),
        (["--data_dir=a", "--data_seed=0,1"], "--data_dir or --data_seed, got both"),
        (["--data_dir=a", "--num_samples=99"], "--data_dir or --num_samples, got both"),
    ],
)
def test_bad_recurring_is_one_line_and_leaves_nothing(tmp_path, args, message):
    check_refused("recurring", tmp_path / "run", args, message)


@pytest.mark.slow  # Compiles two sweeps.
def test_rates_of_the_study_are_asked_for(tmp_path):
    flags = ("--dataset=CON8", "--num_samples=300", "--levels=8,16", "--dry_run")
    planned = [
        run("recurring", "--workdir", tmp_path / "run", *flags, *more).stdout
        for more in ([], ["--study_rates"])
    ]
    assert "setting default: theta_rate=0.04" in planned[0]
    rate = noisy_or.STUDY["CON8"][8].theta_rate
    assert rate != 0.04 and f"setting study: theta_rate={rate:g}" in planned[1]


def _row(data_seed, level, is_recommended, recurring, true, **more):
    return {
        "dataset": "CON8",
        "num_train": 900,
        "data_seed": data_seed,
        "num_runs": 16,
        "level": level,
        "is_recommended": is_recommended,
        "held_out_elbo": -10.0,
        "recurring": recurring,
        "true": true,
        "truths": true,
        "num_truths": 8,
        "repeated": recurring,
        "repeated_true": true,
    } | more


def _claims(tmp_path, rows, name="CON8_1000"):
    table.write_rows(tmp_path / f"{name}.csv", rows)
    flags = [f"--tables={tmp_path}", f"--figures={tmp_path / 'figures'}"]
    done = run("recurring_claims", *flags)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _levels(dataset, true, false=0):
    """Sixteen data sets, level 16 recommended; the first has one more false."""
    return [
        _row(
            seed,
            level,
            level == 16,
            true + false + (seed == 0),
            true if level > 8 else 0,
            num_runs=num_runs,
            dataset=dataset,
        )
        for num_runs in (4, 8, 16)
        for seed in range(16)
        for level in (8, 16, 32, 64)
    ]


def _of_all(tmp_path, kinds, **numbers):
    for kind in kinds:
        text = _claims(tmp_path, _levels(kind, **numbers), f"{kind}_1000")
    (line,) = [line for line in text.split("\n") if line.startswith("nine tenths")]
    return text, line


_KINDS = "CON8", "CON24", "UNIF-DRAWN"


def test_verdicts_follow_the_tables(tmp_path):
    text, line = _of_all(tmp_path, _KINDS, true=7)
    assert "48 of 48" in text and "16: 48" in text
    assert line == "nine tenths of what recurs are true: 1000 samples holds"
    assert "| 1000 | level 8 | +7.00" in text
    assert "is found to have more: 1000 samples holds" in text
    assert (tmp_path / "figures" / "recurring.png").exists()
    _, line = _of_all(tmp_path, _KINDS, true=2, false=6)
    assert line.endswith("1000 samples refuted")


def test_nothing_is_decided_while_data_sets_are_lacking(tmp_path):
    text, line = _of_all(tmp_path, _KINDS[:2], true=7)
    assert line.endswith("1000 samples not decided: runs are lacking, so far holds")
    assert "more: 1000 samples not decided" in text
    rows = [row for row in _levels("UNIF-DRAWN", 7) if row["level"] < 64]
    of_three_levels = _claims(tmp_path, rows, "UNIF-DRAWN_1000")
    assert "are true: 1000 samples not decided" in of_three_levels
    lacking = [line for line in text.split("\n") if line.startswith("Not there: ")]
    assert sum("UNIF-DRAWN_1000" in line for line in lacking) == 3


def test_fewer_runs_are_shown_and_decide_nothing(tmp_path):
    few = [row for row in _levels("CON8", 7) if row["num_runs"] < 16]
    text = _claims(tmp_path, few)
    assert "| CON8 | 1000 | 16 of 16 | 0.99 [" in text and "nan [" not in text
    assert "are true: 1000 samples not decided: runs are lacking" in text
    levels = [row for row in few if row["level"] != 32 and row["num_runs"] == 8]
    text = _claims(tmp_path, levels)  # nothing to compare with at 32
    assert "more: 1000 samples not decided: runs are lacking, so far undecided" in text


def test_what_recurs_is_all_of_the_truth_or_it_is_not(tmp_path):
    at_twice = {
        "IMG": (8, 8, 8),
        "PLNT": (9, 9, 8),
        "CON8": (9, 8, 8),
        "UNIF": (7, 7, 7),
    }
    for name, (recurring, true, truths) in at_twice.items():
        rows = [
            _row(0, 16, True, recurring, true, truths=truths),
            _row(0, 16, True, 9, 0, num_runs=8),
            _row(0, 32, False, 8, 8),
        ]
        rows = [row | {"dataset": name} for row in rows]
        text = _claims(tmp_path, rows, f"{name}_study")
    assert "| CON8 | 16* | 9 | 8 | 8 |" in text and "| CON8 | 32 | 8 | 8 | 8 |" in text
    assert (
        "what recurs at 16 latents is true, and all of the truth: IMG holds, PLNT "
        "holds, UNIF refuted, CON8 refuted\n"
    ) in text
    assert "Not there: CON24_study." in text
    of_fewer = _row(0, 16, True, 8, 8, num_runs=8, dataset="CON24")
    text = _claims(tmp_path, [of_fewer], "CON24_study")
    assert "CON24 not decided: runs are lacking, so far holds" in text


def test_an_empty_consensus_is_counted_of_all_data_sets(tmp_path):
    rows = [_row(seed, 8, seed > 6, seed, 0) for seed in range(8)]
    rows += [_row(seed, 16, False, 0, 0) for seed in range(8)]
    text = _claims(tmp_path, rows, "INDEPENDENT")
    assert "7 of 8 data sets have an empty consensus" in text
    assert text.count("latents that recur: 0, 0, 0, 0, 0, 0, 0, 7") == 1


def test_the_figure_leaves_out_what_does_not_recur(tmp_path):
    assert not list(claims.CLAIMS.draw(Tables(tmp_path)))
    rows = [_row(seed, level, False, 0, 0) for seed in range(4) for level in (8, 16)]
    rows += [_row(seed, 32, True, 2, 1) for seed in range(4)]
    table.write_rows(tmp_path / "CON8_1000.csv", rows)
    ((name, figure),) = claims.CLAIMS.draw(Tables(tmp_path))
    assert name == "recurring" and len(figure.axes) == 2
