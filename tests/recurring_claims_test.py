"""The study of what recurs: its data, its rows, and verdicts that follow its tables."""

import numpy as np
import pytest
from sweep_process import run

import lvm_jax
from experiments import hard_truths
from experiments import recurring_claims as claims
from experiments.cli.claims import Tables
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
    """Eight data sets, level 16 of them recommended; the first has one more false."""
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
        for seed in range(8)
        for level in (8, 16, 32)
    ]


def _of_all(tmp_path, kinds, **numbers):
    for kind in kinds:
        text = _claims(tmp_path, _levels(kind, **numbers), f"{kind}_1000")
    (line,) = [line for line in text.split("\n") if line.startswith("nine tenths")]
    return text, line


_KINDS = "CON8", "CON24", "UNIF-DRAWN"


def test_verdicts_follow_the_tables(tmp_path):
    text, line = _of_all(tmp_path, _KINDS, true=7)
    assert "24 of 24" in text and "16: 24" in text
    assert line == "nine tenths of what recurs are true: 1000 samples holds"
    assert "| 1000 | level 8 | +7.00" in text
    assert "no other level has more: 1000 samples holds" in text
    assert (tmp_path / "figures" / "recurring.png").exists()
    _, line = _of_all(tmp_path, _KINDS, true=2, false=6)
    assert line.endswith("1000 samples refuted")


def test_nothing_is_decided_while_data_sets_are_lacking(tmp_path):
    text, line = _of_all(tmp_path, _KINDS[:2], true=7)
    assert line.endswith("1000 samples not decided: runs are lacking, so far holds")
    assert "has more: 1000 samples not decided" in text
    lacking = [line for line in text.split("\n") if line.startswith("Not there: ")]
    assert sum("UNIF-DRAWN_1000" in line for line in lacking) == 3


def test_an_empty_consensus_is_counted_of_all_data_sets(tmp_path):
    rows = [_row(seed, 8, seed > 6, seed, 0) for seed in range(8)]
    rows += [_row(seed, 16, False, 0, 0) for seed in range(8)]
    text = _claims(tmp_path, rows, "INDEPENDENT")
    assert "7 of 8 data sets have an empty consensus" in text
    assert text.count("latents that recur: 0, 0, 0, 0, 0, 0, 0, 7") == 1


def test_the_figure_leaves_out_what_does_not_recur(tmp_path):
    rows = [_row(seed, 8, True, seed, seed, num_runs=4) for seed in range(4)]
    table.write_rows(tmp_path / "CON8_1000.csv", rows)
    assert not list(claims.CLAIMS.draw(Tables(tmp_path)))
    rows = [_row(seed, level, False, 0, 0) for seed in range(4) for level in (8, 16)]
    rows += [_row(seed, 32, True, 2, 1) for seed in range(4)]
    table.write_rows(tmp_path / "CON8_1000.csv", rows)
    ((name, figure),) = claims.CLAIMS.draw(Tables(tmp_path))
    assert name == "recurring" and len(figure.axes) == 2
