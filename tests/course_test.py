"""What is read from traced runs: ranks, permutations and contentions by hand."""

import numpy as np
import pytest
from scipy import stats
from sweep_process import check_refused, run

import lvm_jax
from experiments import course
from lvm_jax.files import table


def test_ranks_go_from_the_nearest_to_the_farthest():
    relative = np.array([[0.2, 0.9, 0.5], [0.5, 0.5, 0.1]])
    np.testing.assert_allclose(course.ranks(relative), [[0, 1, 0.5], [0.75, 0.75, 0]])
    random = np.random.default_rng(0).integers(0, 5, (20, 4, 6))
    expected = (stats.rankdata(random, axis=-1) - 1) / 5
    np.testing.assert_allclose(course.ranks(random), expected)


def _rank(num_runs, seed=0):
    return course.ranks(np.random.default_rng(seed).random((num_runs, 8, 16)))


def test_a_permutation_test_finds_what_is_there_and_only_that():
    matched = np.stack(
        [np.random.default_rng(n).permutation(16)[:8] for n in range(30)]
    )
    own, p_value = course.permutation_test(_rank(30), matched, 999)
    assert len(own) == 30 * 8 and p_value > 0.05
    near = _rank(30)
    run, truth = np.indices(matched.shape)
    near[run, truth, matched] /= 2
    own, p_value = course.permutation_test(near, matched, 999)
    assert p_value == 1 / 1000
    np.testing.assert_allclose(own, near[run, truth, matched].ravel())


def test_truths_that_are_not_recovered_are_left_out():
    matched = np.full((3, 8), -1)
    matched[1, 4] = 7
    rank = _rank(3)
    own, _ = course.permutation_test(rank, matched, 99)
    np.testing.assert_allclose(own, rank[1, 4, 7])


def test_p_values_of_nothing_are_uniform():
    p_values = [
        course.permutation_test(
            _rank(4, seed),
            np.random.default_rng(seed).permuted(
                np.broadcast_to(np.arange(16), (4, 16)), axis=1
            )[:, :8],
            199,
        )[1]
        for seed in range(100, 200)
    ]
    assert stats.kstest(p_values, "uniform").pvalue > 0.01


_O, _A, _B, _C = [], [0], [1], [2]


def _contentions(sets, nearer=0):
    came = np.zeros((len(sets), 4), bool)
    for record, own in enumerate(sets):
        came[record, own] = True
    distance = np.full(came.shape, 0.5)
    distance[:, nearer] = 0.4
    return list(course.contentions(came, distance, 10.0 + np.arange(len(sets))))


def test_a_contention_ends_when_one_stays_away():
    both = _A + _B
    (own,) = _contentions([_O, _A, both, both, _B], nearer=0)
    assert own == (12.0, 0, 0, 1)
    (own,) = _contentions([_O, both, _A], nearer=1)
    assert own == (11.0, 1, None, 0)
    # One that comes and goes contends until it stays away.
    (own,) = _contentions([_A, both, _A, both, _O, both, _B, _B])
    assert (own.epoch, own.first, own.left) == (11.0, 0, 1)


def test_a_contention_that_ends_otherwise_leaves_none():
    both = _A + _B
    for after in (_O, _C):
        found = _contentions([_A, both, after])
        assert [own.left for own in found] == [None]
    (own,) = _contentions([_A, both])
    assert own.left is None


def test_of_three_each_pair_contends():
    found = _contentions([_A, _A + _B + _C, _A + _C, _C])
    assert [(own.first, own.left) for own in found] == [(0, 0), (0, 2), (None, 2)]


def test_truths_that_are_not_recovered_are_censored_at_the_end():
    rows = [{"epoch": epoch, "is_recovered": True} for epoch in (1, 2, 2, 200)]
    rows += [{"epoch": 3, "is_recovered": False}] * 4
    epochs, shares = course.kaplan_meier(rows)
    known = epochs < 200
    np.testing.assert_array_equal(epochs[known], [1, 2])
    np.testing.assert_allclose(shares[known], [1 / 8, 3 / 8])


def test_runs_that_are_all_empty_are_left_out_and_counted():
    states = ({"empty": 4, "undecided": 0}, {"empty": 2, "undecided": 1})
    share, number = course.undecided_share(
        [{"level": 4, **counts} for counts in states]
    )
    assert (share.estimate, number) == (0.5, 1)


_SMALL = "--num_samples", "200", "--num_seeds", "2", "--levels", "8"


def _run(binary, workdir, *args):
    done = run(binary, "--workdir", workdir, *_SMALL, *args)
    assert done.returncode == 0, done.stderr
    return done


@pytest.mark.slow  # Three processes.
def test_tables_are_of_the_runs_of_both_sweeps(tmp_path):
    early, late = tmp_path / "early", tmp_path / "late"
    ninths = ("--epochs", 10, "--records_per_epoch", 9)
    _run("dynamics", early, "--trace", "--pictures", *ninths)
    _run("dynamics", late, "--trace", "--epochs", 200)
    assert (early / "figures" / "moments.png").exists()
    of_both = [lvm_jax.load(path).traces[8] for path in (early, late)]
    assert of_both[0]["failure"].shape == (1, 2, 90, 8, 64)
    # The same runs: an epoch's last record is the same in both.
    for name, values in of_both[1].items():
        np.testing.assert_array_equal(of_both[0][name][:, :, 8::9], values[:, :, :10])
    tables = ("--early", early, "--late", late, "--tables", tmp_path / "tables")
    done = run("course_tables", *tables)
    assert done.returncode == 0, done.stderr
    moments = table.read_rows(tmp_path / "tables" / "moments.csv")
    assert len(moments) == 2 * 8 * 2
    for row in moments:
        assert sum(row[state] for state in lvm_jax.dynamics.STATES) == 8
    settled = table.read_rows(tmp_path / "tables" / "settled.csv")
    assert len(settled) == 2 * 8
    assert all(0.11 < row["epoch"] <= 200 for row in settled)
    assert {
        row["end"] for row in table.read_rows(tmp_path / "tables/agreement.csv")
    } == {
        10,
        50,
        200,
    }


@pytest.mark.slow  # A process for each.
@pytest.mark.parametrize("learner", ["pruned", "grown", "renewed", "nearest"])
def test_latents_change_while_a_run_learns(tmp_path, learner):
    times = () if learner == "nearest" else ("--at", "1,2")
    _run("dynamics", tmp_path / "run", "--learner", learner, "--epochs", 3, *times)
    rows = table.read_rows(tmp_path / "run" / "kept.csv")
    assert len(rows) == 2 * max(len(times), 1)
    kept = lvm_jax.load(tmp_path / "run").kept[8]
    assert learner == "pruned" or (kept.live == 1).all()
    history = table.read_rows(tmp_path / "run" / "history.csv")
    of_times = [
        [row["held_out_elbo"] for row in history if row.get("at") == time]
        for time in (1, 2)
    ]
    assert learner == "nearest" or of_times[0] != of_times[1]


@pytest.mark.slow  # Compiles two sweeps.
def test_a_rate_is_tuned_on_other_seeds(tmp_path):
    path = tmp_path / "rloo"
    _run("noise", path, "--estimator", "rloo2", "--epochs", 2)
    tuning = lvm_jax.load(f"{path}.tuning")
    assert set(tuning.plan.seeds).isdisjoint(lvm_jax.load(path).plan.seeds)
    best = max(tuning.kept[8].objective.mean(1))
    (rate,) = {row["rate"] for row in table.read_rows(path / "kept.csv")}
    chosen = list(tuning.plan.settings).index(f"rate={rate:g}")
    assert tuning.kept[8].objective.mean(1)[chosen] == best


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--learner", "nearest", "--levels", "16"), "expected one level"),
        (("--pictures",), "expected --trace with --pictures, got none"),
        (("--learner", "whole", "--at", "3"), "expected flags of whole"),
    ],
)
def test_flags_of_dynamics_that_make_no_sense_are_refused(tmp_path, args, message):
    check_refused("dynamics", tmp_path / "run", args, message)
