"""Data sets of the study, made and read."""

import functools
import os
import pickle
from typing import ClassVar

import jax
import numpy as np
import pytest
from scipy import stats

import lvm_jax
from lvm_jax import noisy_or, pcfg, sparse_coding
from lvm_jax.files import archive, regular, table
from lvm_jax.noisy_or.release import read_binary_samples


def _marginals(params):
    """P(x_d = 1) = 1 - l_d prod_k (1 - p_k + p_k f_kd)."""
    prior, failure = np.float64(params.prior), np.float64(params.failure)
    return 1 - params.noise * np.prod(1 - prior[:, None] * (1 - failure), axis=0)


def test_img_is_the_published_truth(release_dir):
    published = noisy_or.read_dataset(release_dir, "IMG")
    for made, read in zip(noisy_or.img(), published.truth, strict=True):
        np.testing.assert_array_equal(made, read)


@pytest.mark.parametrize("name", ["IMG", "CON8", "PLNT"])
def test_published_samples_come_from_the_published_truth(release_dir, name):
    dataset = noisy_or.read_dataset(release_dir, name)
    expected = _marginals(dataset.truth)
    deviation = np.sqrt(expected * (1 - expected) / len(dataset.samples))
    z = (dataset.samples.mean(0) - expected) / deviation
    # One sample of many for all variables: a latent's frequency moves its pixels.
    assert np.abs(z).max() < 5


@pytest.mark.parametrize("name", ["IMG", "UNIF", "CON8", "CON24"])
def test_samples_have_the_marginals_of_the_truth(name):
    dataset = noisy_or.make(name, jax.random.key(1), 20_000)
    assert dataset.samples.shape == (20_000, 64) and dataset.samples.dtype == bool
    expected = _marginals(dataset.truth)
    deviation = np.sqrt(expected * (1 - expected) / 20_000)
    assert (np.abs(dataset.samples.mean(0) - expected) < 5 * deviation).all()


def test_samples_depend_on_the_key_and_on_nothing_else():
    one, same, other = (
        np.asarray(noisy_or.make("IMG", jax.random.key(k), 50).samples)
        for k in (0, 0, 1)
    )
    assert (one == same).all() and (one != other).any()


def test_unif_is_the_published_draw():
    """The masks come first, 256 numbers each, and only 64 of each are used."""
    random = np.random.RandomState(1)
    masks = [random.binomial(1, 0.25, (16, 16)).ravel()[:64] for _ in range(8)]
    truth = noisy_or.unif()
    prior, failure = np.asarray(truth.prior), np.asarray(truth.failure)
    np.testing.assert_array_equal(failure < 1, masks)
    for k in range(8):
        draws = random.uniform(0.1, 0.3), random.uniform(0.80, 0.95, 64)
        np.testing.assert_allclose(prior[k], draws[0], rtol=1e-6)
        np.testing.assert_allclose(
            failure[k][masks[k] == 1], 1 - draws[1][masks[k] == 1], rtol=1e-5
        )


def test_drawn_unif_is_of_the_published_distribution_and_another_for_every_key():
    keys = jax.random.split(jax.random.key(0), 200)
    truth = jax.vmap(noisy_or.random_unif)(keys)
    failure, prior = np.asarray(truth.failure), np.asarray(truth.prior)
    is_child = failure < 1
    assert abs(is_child.mean() - 0.25) < 4 * (0.1875 / is_child.size) ** 0.5
    for values, low, high in ((failure[is_child], 0.05, 0.2), (prior, 0.1, 0.3)):
        uniform = stats.uniform(low, high - low)
        assert stats.kstest(values.ravel(), uniform.cdf).pvalue > 1e-3
    assert len(np.unique(failure, axis=0)) == 200
    made = [noisy_or.make("UNIF-DRAWN", lvm_jax.key(seed), 10) for seed in (0, 0, 1)]
    same, again, other = (np.asarray(dataset.truth.failure) for dataset in made)
    assert (same == again).all() and (same != other).any()
    assert noisy_or.published(made[0], (8, 64)) == (
        {level: noisy_or.STUDY["UNIF"][level] for level in (8, 64)},
        100,
    )


@pytest.mark.parametrize("num_children", [8, 24])
def test_connected_latents_have_their_number_of_children(num_children):
    truth = noisy_or.connected(jax.random.key(0), num_children)
    np.testing.assert_array_equal((truth.failure < 0.5).sum(1), num_children)
    np.testing.assert_allclose(truth.failure.min(), 0.1, rtol=1e-6)
    np.testing.assert_allclose(truth.prior, 1 / 8, rtol=1e-6)
    assert (truth.failure[0] != truth.failure[1]).any()
    with pytest.raises(ValueError, match="0 to 64 children of a latent, got 65"):
        noisy_or.connected(jax.random.key(0), 65)


def test_a_drawn_truth_is_the_same_whatever_jax_s_settings_are():
    key = lvm_jax.key(0)
    draws = {
        noisy_or.random_unif: (key,),
        noisy_or.connected: (key, 8),
    }
    for draw, given in draws.items():
        expected = draw(*given)
        with jax.enable_x64(True):
            jax.tree.map(np.testing.assert_array_equal, draw(*given), expected)


def test_the_study_has_no_training_of_other_learners():
    dataset = noisy_or.make("IMG", jax.random.key(0), 10)
    with pytest.raises(ValueError, match=r"a learner of the study, nvil, .* 'rloo'"):
        noisy_or.training(dataset, "rloo")


def test_img_flip_flips_two_columns_in_a_tenth_of_samples():
    flipped = noisy_or.make("IMG-FLIP", jax.random.key(2), 20_000)
    share = np.asarray(flipped.samples).mean(0)
    plain = _marginals(flipped.truth)
    in_column = np.isin(np.arange(64) % 8, [0, 4])
    expected = np.where(in_column, 0.9 * plain + 0.1 * (1 - plain), plain)
    np.testing.assert_allclose(share, expected, atol=0.02)
    # All sixteen flip together: twins, never on together without the flip, are.
    corners = np.asarray(flipped.samples)[:, in_column]
    assert (corners.sum(1) > 12).mean() > 0.03


def test_img_unif_has_rarer_nuisance_latents():
    dataset = noisy_or.make("IMG-UNIF", jax.random.key(3), 20_000)
    assert dataset.truth.prior.shape == (8,)
    nuisance = noisy_or.unif(prior=0.05)
    np.testing.assert_allclose(nuisance.prior, 0.05, rtol=1e-6)
    off = (1 - _marginals(dataset.truth)) * (1 - _marginals(nuisance)) / 0.999
    np.testing.assert_allclose(dataset.samples.mean(0), 1 - off, atol=0.02)


def test_make_refuses_unknown_names():
    with pytest.raises(ValueError, match="among IMG, UNIF"):
        noisy_or.make("IMGX", jax.random.key(0))


def _write_dataset(root, **contents):
    files = {
        "true_params/priors.txt": "2\n0.25\n0.5\n",
        "true_params/noise.txt": "3\n0.9\n0.9\n0.9\n",
        "true_params/weights.txt": "\t0.1 \t1.0 \t1.0 \n1.0 0.1 0.2\n",
        "samples/raw_samples_n2_s0": "0 1 1\n1 0 0\n",
        **contents,
    }
    for name, content in files.items():
        path = root / "noisyor" / "datasets" / "TINY" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if content is not None:
            path.write_bytes(
                content if isinstance(content, bytes) else content.encode()
            )


def test_reader_reads_what_is_written(tmp_path):
    _write_dataset(tmp_path)
    dataset = noisy_or.read_dataset(tmp_path, "TINY")
    np.testing.assert_allclose(dataset.truth.prior, [0.25, 0.5])
    np.testing.assert_allclose(
        dataset.truth.failure, [[0.1, 1, 1], [1, 0.1, 0.2]], rtol=1e-6
    )
    np.testing.assert_array_equal(dataset.samples, [[0, 1, 1], [1, 0, 0]])


def test_samples_that_a_file_name_promises_are_missed(tmp_path):
    few = {"samples/raw_samples_n2_s0": None, "samples/raw_samples_n3_s0": "0 1 1\n"}
    _write_dataset(tmp_path, **few, **{"samples/README": "What these are.\n"})
    with pytest.warns(UserWarning, match=r"n3_s0: expected 3 samples by its name, g"):
        dataset = noisy_or.read_dataset(tmp_path, "TINY")
    assert dataset.samples.shape == (1, 3)


@pytest.mark.parametrize("name", ["", ".", "..", "./TINY", "../datasets/TINY"])
def test_a_data_set_is_a_name_and_no_path(tmp_path, name):
    _write_dataset(tmp_path)
    with pytest.raises(ValueError, match=r"expected a data set in .* got only TINY"):
        noisy_or.read_dataset(tmp_path, name)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("priors.txt", "3\n0.25\n0.5\n", "expected 3 numbers after the first, got 2"),
        ("priors.txt", "2\n0.25\n1.5\n", "probabilities from 0 to 1, got .* to 1.5"),
        ("priors.txt", "2\n0.25\nnan\n", "finite numbers in line 3"),
        ("priors.txt", "2\n0.25\nabc\n", "numbers in line 3, got 'abc'"),
        ("priors.txt", "", "got an empty file"),
        ("priors.txt", "0\n", "probabilities, at least one, got none"),
        ("noise.txt", b"\x80\x04\x95", "a text file, got binary data"),
        ("weights.txt", "1 1 1\n1 1\n", "3 numbers in each row, got 2 in row 2"),
        ("weights.txt", "1 1 1\n", "2 rows, as priors.txt has, got 1"),
    ],
)
def test_reader_names_what_is_malformed(tmp_path, name, content, message):
    _write_dataset(tmp_path, **{f"true_params/{name}": content})
    with pytest.raises(ValueError, match=f"{name}: .*{message}"):
        noisy_or.read_dataset(tmp_path, "TINY")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("0 1 2\n", "samples of 0 and 1, got 2"),
        ("0 1 1\n0 1\n", "3 numbers in each row, got 2 in row 2"),
        ("0 1\n", "3 variables, as noise.txt has, got 2"),
        (None, "a file of samples, got none"),
    ],
)
def test_reader_names_malformed_samples(tmp_path, content, message):
    _write_dataset(tmp_path, **{"samples/raw_samples_n2_s0": content})
    with pytest.raises(ValueError, match=message):
        noisy_or.read_dataset(tmp_path, "TINY")


def test_hidden_files_and_backups_are_no_samples(tmp_path):
    _write_dataset(tmp_path)
    plain = noisy_or.read_dataset(tmp_path, "TINY")
    strays = [".DS_Store", "._raw_samples_n2_s0", "#raw_samples_n2_s0#", "a~"]
    names = [
        f"{folder}/{name}"
        for folder in ("samples", "true_params")
        for name in (*strays, ".x.txt")
    ]
    _write_dataset(tmp_path, **dict.fromkeys(names, b"\0\0\0\1Bud1"))
    (tmp_path / "noisyor/datasets/TINY/samples/.ipynb_checkpoints").mkdir()
    dataset = noisy_or.read_dataset(tmp_path, "TINY")
    np.testing.assert_array_equal(dataset.samples, plain.samples)
    assert dataset.recipe == plain.recipe


def test_another_file_among_samples_is_named(tmp_path):
    _write_dataset(tmp_path, **{"samples/Thumbs.db": b"\xd0\xcf\x11\xe0"})
    with pytest.raises(ValueError, match=r"Thumbs\.db: expected a text file, got"):
        noisy_or.read_dataset(tmp_path, "TINY")


def test_reader_names_data_sets_that_are_there(tmp_path):
    _write_dataset(tmp_path)
    (tmp_path / "noisyor/datasets/.git").mkdir()
    (tmp_path / "noisyor/datasets/README.md").touch()
    with pytest.raises(ValueError, match="got only TINY"):
        noisy_or.read_dataset(tmp_path, "HUGE")
    with pytest.raises(ValueError, match="got no folder"):
        noisy_or.read_dataset(tmp_path / "nowhere", "TINY")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("2\n", "numbers of latent and of observed variables in line 1"),
        ("2 3\n0.1 0.2\n1 1 1\n", "4 lines after the first, got 2"),
        ("1 2\n0.1\n1 1 1\n1 1\n", "2 numbers in each row, got 3 in row 1"),
        ("1 2\n-0.1\n1 1\n1 1\n", "probabilities from 0 to 1, got values from -0.1"),
        ("1e300 2\n0.1\n1 1\n1 1\n", "lines after the first, got 3"),
        ("0 2\n\n1 1\n", "numbers of latent and of observed variables in line 1"),
        ("nan 2\n", "finite numbers in line 1"),
        ("1 2\n0.1\x001\n1 1\n1 1\n", "a text file, got binary data"),
        ("1 1j\n", "numbers in line 1, got '1 1j'"),
        ("9" * 10_000 + "x", "numbers in line 1, got '9999"),
    ],
)
def test_model_reader_names_what_is_malformed(tmp_path, content, message):
    path = tmp_path / "model_epoch1.dat"
    path.write_text(content)
    with pytest.raises(ValueError, match=message):
        noisy_or.read_model(path)


_READERS = [
    noisy_or.read_model,
    read_binary_samples,
    sparse_coding.read_matrix,
    pcfg.read_grammar,
    functools.partial(pcfg.read_corpus, vocabulary=9),
]


_PRIOR, _FAILURE, _NOISE = np.full(2, 0.5), np.full((2, 3), 0.5), np.full(3, 0.5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"noise": None}, "expected arrays prior, failure, noise, got failure, prior"),
        ({"prior": np.full(3, 0.5)}, "arrays [K], [K, D] and [D], got shapes (3,), ("),
        ({"noise": np.full((1, 3), 0.5)}, "arrays [K], [K, D] and [D], got shapes"),
        ({"prior": np.float64(0.5)}, "arrays [K], [K, D] and [D], got shapes ()"),
        ({"prior": np.zeros(0), "failure": np.zeros((0, 3))}, "at least one, got none"),
        ({"failure": np.zeros((2, 0)), "noise": np.zeros(0)}, "at least one, got none"),
        ({"prior": np.array([0.5, 1.5])}, "probabilities from 0 to 1, got values"),
        ({"prior": np.array([0.5, -1e-30])}, "probabilities from 0 to 1, got values"),
        ({"prior": np.array([0.5, np.nan])}, "finite numbers in prior"),
        ({"prior": np.array([0.5, np.inf])}, "finite numbers in prior"),
        ({"prior": np.array([0.5, 0.5j])}, "finite numbers in prior"),
        ({"prior": np.array(["0.5", "0.5"])}, "finite numbers in prior"),
        ({"prior": np.array([0.5, None])}, "numbers or text, got Python objects"),
    ],
)
def test_a_truth_that_is_none_is_refused(tmp_path, changes, message):
    path = tmp_path / "truth.NPZ"
    arrays = {"prior": _PRIOR, "failure": _FAILURE, "noise": _NOISE, **changes}
    with open(path, "wb") as file:
        np.savez(file, **{k: value for k, value in arrays.items() if value is not None})
    with pytest.raises(ValueError) as error:
        noisy_or.read_truth(path)
    assert str(error.value).startswith(str(path)) and message in str(error.value)
    assert str(error.value).isprintable()


@pytest.mark.parametrize("dtype", [np.float16, np.float32, ">f8", np.longdouble, int])
def test_a_truth_is_read_in_any_type_of_numbers(tmp_path, dtype):
    arrays = [np.round(array).astype(dtype) for array in (_PRIOR, _FAILURE, _NOISE)]
    np.savez(tmp_path / "t.npz", prior=arrays[0], failure=arrays[1], noise=arrays[2])
    assert noisy_or.read_truth(tmp_path / "t.npz").failure.shape == (2, 3)


_GRAMMAR = {
    "log_root": np.log(np.full(1, 1.0)),
    "log_rules": np.log(np.full((1, 3, 3), 1 / 9)),
    "log_emissions": np.log(np.full((2, 4), 1 / 4)),
    "words": np.array(["a", "b", "c", "d"]),
}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"log_root": None}, "expected log_root in the grammar"),
        ({"log_root": np.zeros(0)}, "arrays [N], [N, S, S] and [T, V] in the grammar"),
        ({"log_root": np.zeros((1, 1))}, "arrays [N], [N, S, S] and [T, V] in the"),
        ({"log_root": np.zeros(1, complex)}, "numbers as log_root in the grammar"),
        ({"log_root": np.array(["0"])}, "numbers as log_root in the grammar"),
        ({"log_root": np.array([np.nan])}, "got nan in row 0 of log_root"),
        ({"log_root": np.array([1e300])}, "got inf in row 0 of log_root"),
        ({"log_rules": np.zeros((1, 2, 2))}, "log_rules of shape (1, 3, 3)"),
        ({"log_emissions": np.zeros((2, 4))}, "sum to 1 in the grammar"),
        ({"words": np.array(["a"])}, "4 words in the grammar"),
        ({"words": np.arange(4)}, "4 words in the grammar"),
    ],
)
@pytest.mark.filterwarnings("error")
def test_a_grammar_that_is_none_is_refused(tmp_path, changes, message):
    path = tmp_path / "grammar.npz"
    np.savez(path, **_GRAMMAR)
    assert pcfg.read_grammar(path)[1] == ("a", "b", "c", "d")
    arrays = _GRAMMAR | changes
    np.savez(path, **{k: value for k, value in arrays.items() if value is not None})
    with pytest.raises(ValueError) as error:
        pcfg.read_grammar(path)
    assert message in str(error.value) and str(path) in str(error.value)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("read", _READERS)
def test_a_pickle_is_refused_in_place_of_any_input(tmp_path, read, protocol):
    path = tmp_path / "input"
    path.write_bytes(pickle.dumps(_Unpickled(), protocol))
    with pytest.raises(ValueError, match="expected"):
        read(path)
    assert not _Unpickled.seen


class _Unpickled:
    """Notices when it is unpickled."""

    seen: ClassVar[list[int]] = []

    def __reduce__(self):
        return _Unpickled.seen.append, (1,)


def _folder_of_fields(path):
    """Reads a folder in which all that is read is the same file."""
    folder = path.with_name("folder_of_fields")
    folder.mkdir(exist_ok=True)
    (folder / "priors.txt").unlink(missing_ok=True)
    (folder / "priors.txt").symlink_to(path)
    return noisy_or.read_truth(folder)


@pytest.mark.parametrize(
    "read",
    [
        noisy_or.read_model,
        read_binary_samples,
        _folder_of_fields,
        sparse_coding.read_matrix,
        pcfg.read_grammar,
        functools.partial(pcfg.read_corpus, vocabulary=9),
        archive.read,
        table.read_rows,
        lambda path: regular.digest([path]),
    ],
)
def test_what_is_no_file_is_refused_without_waiting(tmp_path, read):
    (tmp_path / "a directory").mkdir()
    os.mkfifo(tmp_path / "a pipe")
    (tmp_path / "a device").symlink_to("/dev/zero")
    for kind in ("a directory", "a pipe", "a device"):
        with pytest.raises(ValueError, match=f"expected a regular file, got {kind}"):
            read(tmp_path / kind)


def test_missing_file_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        noisy_or.read_model(tmp_path / "model_epoch1.dat")


def test_exact_likelihood_of_published_samples_is_highest_under_the_truth(release_dir):
    dataset = noisy_or.read_dataset(release_dir, "IMG")
    x = dataset.samples[:500]
    best = noisy_or.log_likelihood(dataset.truth, x).mean()
    other = noisy_or.log_likelihood(noisy_or.img(prior=0.1), x).mean()
    assert best > other + 0.5
