"""Calibration: redrawn data are like the first, and what recurs in them is scored."""

import dataclasses

import jax
import numpy as np
import pytest

import lvm_jax
from lvm_jax import noisy_or, sparse_coding
from lvm_jax.noisy_or.redraw import redraw
from lvm_jax.numerics import unpack_bits
from lvm_jax.training.results import Kept, Results

_NUM_SAMPLES = 3000


@pytest.fixture(scope="module")
def networks():
    """A task of samples of IMG."""
    return noisy_or.task(noisy_or.make("IMG", lvm_jax.key(0), _NUM_SAMPLES))


def _latents(truth, chosen=slice(None)):
    return {
        "prior": np.asarray(truth.prior)[chosen],
        "failure": np.asarray(truth.failure)[chosen],
    }


@pytest.mark.slow  # Refits a network.
def test_a_refit_explains_samples_as_well_as_their_truth(networks):
    """From latents that are off: priors by half, failures towards one."""
    truth = networks.truth
    latents = _latents(truth)
    rough = {"prior": latents["prior"] * 0.5, "failure": latents["failure"] ** 0.7}
    found = noisy_or.refit(lvm_jax.key(1), rough, networks.train)
    matched = jax.jit(noisy_or.recover)(truth, found).matched
    assert matched.tolist() == list(range(8))
    np.testing.assert_allclose(found.prior, truth.prior, atol=0.04)
    np.testing.assert_allclose(found.failure, truth.failure, atol=0.15)

    def log_likelihood(truth):
        return noisy_or.true_log_likelihood(dataclasses.replace(networks, truth=truth))

    assert log_likelihood(found) > log_likelihood(truth) - 0.15
    first = noisy_or.from_probabilities(*rough.values(), truth.noise)
    assert log_likelihood(first) < log_likelihood(truth) - 0.5


@pytest.mark.slow  # Refits three times.
def test_redrawn_networks_have_samples_of_their_truth(networks):
    latents = _latents(networks.truth, [7, 6, 5, 4, 3, 2, 1, 0])
    drawn = redraw(lvm_jax.key(1), networks, latents)
    again = redraw(lvm_jax.key(1), networks, latents)
    other = redraw(lvm_jax.key(2), networks, latents)
    assert drawn.truth.prior_logits.shape == (8,)
    for name in ("train", "validation", "held_out"):
        part = getattr(drawn, name)
        assert part.shape == getattr(networks, name).shape
        assert part.dtype == getattr(networks, name).dtype
        assert (part == getattr(again, name)).all()
        assert (part != getattr(other, name)).any()
    assert (drawn.held_out != drawn.validation).any()
    x = np.asarray(unpack_bits(drawn.train, 64))
    on = 1 - _off(drawn.truth)
    np.testing.assert_allclose(x.mean(0), on, atol=4.5 * 0.5 / len(x) ** 0.5)
    assert drawn.recipe is None and drawn.learner is networks.learner


def test_redrawn_dictionaries_have_codes_and_noise_of_the_samples():
    dataset = sparse_coding.make(lvm_jax.key(0), 30.0, num_samples=2000)
    random = np.random.default_rng(0)
    noise = 0.002 * random.normal(size=dataset.samples.shape)
    noise[:, 50:] = 0
    dataset = dataset._replace(samples=np.asarray(dataset.samples) + noise, recipe=None)
    task = sparse_coding.task(dataset)
    columns = np.asarray(dataset.truth.dictionary)
    drawn = task.redraw(lvm_jax.key(1), task, {"column": columns})
    np.testing.assert_allclose(drawn.truth.dictionary, columns, atol=1e-6)
    assert drawn.train.shape == task.train.shape
    # As far from the columns' span as before, and as large.
    basis = np.linalg.qr(columns.T)[0]
    sizes, activities, encode = [], [], jax.jit(sparse_coding.encode)
    for x in (task.train, drawn.train):
        rest = x - x @ basis @ basis.T
        sizes.append([np.square(x).mean(), np.square(rest[:, :50]).mean()])
        active = np.asarray(encode(dataset.truth, x)) > 0
        activities.append(active.mean(0))
    np.testing.assert_allclose(sizes[1], sizes[0], rtol=0.1)
    assert max(abs(activities[0] - activities[1])) < 0.1  # the noise twice


def _off(model):
    """[D]. P(x = 0), by independence of latents."""
    prior, failure = np.asarray(model.prior), np.asarray(model.failure)
    each = 1 - prior[:, None] * (1 - failure)
    return each.prod(0) * np.asarray(model.noise)


def _results(models, plan):
    """Results at one level whose runs have kept these networks."""
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves)[None], *models)
    runs = (1, len(models))
    kept = Kept(
        stacked,
        np.ones((*runs, models[0].prior_logits.size), np.float32),
        np.zeros(runs),
        np.ones(runs, int),
        np.zeros(runs, bool),
    )
    return Results(
        name="made",
        plan=dataclasses.replace(plan, seeds=range(len(models))),
        epochs=np.array([1]),
        history={},
        kept={plan.levels[0]: kept},
        num_truths=None,
    )


def _network(truth, chosen):
    """The chosen latents of a truth; of a number that it has not, a false one."""
    prior, failure = np.asarray(truth.prior), np.asarray(truth.failure)
    false = np.where(np.arange(64) % 9 == np.array(chosen)[:, None] % 9, 0.05, 1.0)
    is_true = np.array(chosen) < len(prior)
    place = np.where(is_true, chosen, 0)
    return noisy_or.from_probabilities(
        np.where(is_true, prior[place], 0.3),
        np.where(is_true[:, None], failure[place], false),
        np.asarray(truth.noise),
    )


@pytest.fixture(scope="module")
def calibrated(networks):
    """Of four runs, which have four truths in common and learn some of them again."""
    truths = []

    def redraw_and_tell(key, task, latents):
        drawn = networks.redraw(key, task, latents)
        truths.append(drawn.truth)
        return drawn

    em = dataclasses.replace(
        networks,
        redraw=redraw_and_tell,
        learner=lvm_jax.noisy_or.task(
            noisy_or.make("IMG", lvm_jax.key(0), 300), noisy_or.em
        ).learner,
    )
    plan = lvm_jax.Plan(
        levels=(4,), seeds=(0, 1), settings={"em": noisy_or.EmHyperparams()}
    )
    runs = [[0, 1, 2, 3], [4, 0, 1, 2], [3, 4, 0, 2], [1, 0, 2, 4]]
    first = _results([_network(em.truth, own) for own in runs], plan)
    calls = []

    def train(task, plan, num_epochs, *, workdir, **options):
        calls.append((task, plan, num_epochs, workdir, options))
        # Truth 0 four times, 1 twice, 30 three times, others once.
        found = [[0, 1, 30, 31], [0, 1, 30, 32], [0, 33, 30, 34], [0, 35, 36, 37]]
        return _results([_network(truths[-1], own) for own in found], plan)

    found = lvm_jax.calibrate(
        em, first, level=4, num_data_sets=2, workdir="there", train=train, devices="x"
    )
    return found, calls, truths


@pytest.mark.slow  # Refits two networks.
def test_data_are_redrawn_from_what_recurs_and_learned_without_the_truth(calibrated):
    _, calls, truths = calibrated
    assert [len(truth.prior_logits) for truth in truths] == [4, 4]
    for number, (task, plan, num_epochs, workdir, options) in enumerate(calls):
        assert task.truth is None and task.name == "IMG redrawn"
        assert plan.levels == (4,) and num_epochs == 1 and options == {"devices": "x"}
        assert workdir.name.endswith(f"-data{number}")
        assert workdir.parent.name == "there"
    assert (calls[0][0].train != calls[1][0].train).any()


@pytest.mark.slow  # Of the same.
def test_what_recurs_is_true_if_it_matches_a_truth(calibrated):
    found, _, _ = calibrated
    assert found.num_truths.tolist() == [4, 4]
    # Truth 0 in all runs, a false one in three of four, truth 1 in two, others in one.
    assert found.precisions(0.9).tolist() == [1, 1]
    assert found.precisions(0.5).tolist() == [0.5, 0.5]
    assert found.precisions(0.3).tolist() == [2 / 3, 2 / 3]
    assert found.precisions(0.0).tolist() == [0.2, 0.2]
    assert found.recalls(0.5).tolist() == [0.25, 0.25]
    assert found.recalls(0.0).tolist() == [0.5, 0.5]


def _refuse_to_redraw(key, task, latents):
    raise ValueError(f"expected to redraw {len(latents['prior'])} latents")


def test_what_cannot_be_calibrated_is_refused(networks):
    plan = lvm_jax.Plan(
        levels=(4,), seeds=(0, 1), settings={"a": noisy_or.NvilHyperparams()}
    )
    task = noisy_or.task(noisy_or.make("IMG", lvm_jax.key(0), 300), noisy_or.em)
    plan = dataclasses.replace(plan, settings={"em": noisy_or.EmHyperparams()})
    apart = [_network(networks.truth, [of]) for of in (0, 1)]
    results = _results(apart, dataclasses.replace(plan, levels=(1,)))
    with pytest.raises(ValueError, match="expected latents that recur, got none"):
        lvm_jax.calibrate(task, results, level=1)
    with pytest.raises(ValueError, match="at least 2 levels to compare, got 1"):
        lvm_jax.calibrate(task, results)
    for more in ({"level": 3}, {"level": 1, "setting": "z"}):
        with pytest.raises(ValueError, match="of the results, got"):
            lvm_jax.calibrate(task, results, **more)
    found = lvm_jax.consensus(task, results, share=0.0)
    with pytest.raises(ValueError, match="expected to redraw"):
        task = dataclasses.replace(task, redraw=_refuse_to_redraw)
        lvm_jax.calibrate(task, results, level=1, found=found)
    with pytest.raises(ValueError, match="at least 1 data set, got 0"):
        lvm_jax.calibrate(task, results, level=1, num_data_sets=0)
    task = dataclasses.replace(task, redraw=None)
    with pytest.raises(ValueError, match="a task with `redraw`, got IMG without"):
        lvm_jax.calibrate(task, results, level=1)
