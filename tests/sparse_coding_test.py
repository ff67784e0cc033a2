"""The sparse coding model and its data against NumPy and SciPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
from jax.test_util import check_grads

from lvm_jax.sparse_coding import SparseCoding, data, release
from lvm_jax.sparse_coding import model as sparse_coding

_TOLERANCE = {"float32": 2e-3, "float64": 1e-6}
_TOLERANCE_IF_SINGULAR = {"float32": 6e-2, "float64": 3e-5}
_GUARD = {"float32": 1e-6, "float64": 1e-11}  # of a Gram matrix of norm 1


@pytest.fixture(params=["float32", "float64"])
def precision(request):
    with jax.enable_x64(request.param == "float64"):
        yield request.param


def _unit_rows(*shape, seed=0):
    rows = np.random.default_rng(seed).normal(size=shape)
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


_compiled = jax.jit(sparse_coding.least_squares)
_normalise = jax.jit(sparse_coding.normalise)


def _least_squares(dictionary, x):
    params = SparseCoding(jnp.asarray(dictionary, float))
    return np.asarray(_compiled(params, jnp.asarray(x, float)), np.float64)


@pytest.mark.parametrize("num_latents", [1, 5, 10, 16, 40])
def test_least_squares_is_the_pseudo_inverse(precision, num_latents):
    scale = np.linspace(1, 2, 10)  # keeps the square matrix from being near-singular
    dictionary = np.eye(num_latents, 10) + 0.3 * _unit_rows(num_latents, 10) * scale
    x = _unit_rows(7, 10, seed=1)
    np.testing.assert_allclose(
        _least_squares(dictionary, x),
        x @ np.linalg.pinv(dictionary),
        atol=_TOLERANCE[precision],
    )


@pytest.mark.parametrize("num_latents", [6, 24])
@pytest.mark.parametrize("distance", [0.2, 1e-2, 1e-3, 1e-5, 1e-7, 0.0])
def test_two_nearly_equal_columns(precision, num_latents, distance):
    dictionary = _unit_rows(num_latents, 10)
    dictionary[1] = dictionary[0] + distance * dictionary[2]
    x = _unit_rows(7, 10, seed=1)
    codes = _least_squares(dictionary, x)
    error = np.linalg.norm(codes @ dictionary - x, axis=1)
    best = np.linalg.norm(x @ np.linalg.pinv(dictionary) @ dictionary - x, axis=1)
    is_distinct = distance > {"float32": 0.1, "float64": 1e-3}[precision]
    if is_distinct or distance == 0:
        np.testing.assert_allclose(
            codes,
            x @ np.linalg.pinv(dictionary),
            atol=_TOLERANCE_IF_SINGULAR[precision],
        )
        np.testing.assert_allclose(error, best, atol=_TOLERANCE[precision])
    assert np.linalg.norm(codes, axis=1).max() < 1 / np.sqrt(_GUARD[precision])
    assert error.max() <= 1 + _TOLERANCE[precision]


@pytest.mark.parametrize("num_latents", [8, 48, 96, 400])
def test_equal_columns_share_equally(precision, num_latents):
    dictionary = np.repeat(_unit_rows(1, 100), num_latents, axis=0)
    codes = _least_squares(dictionary, dictionary[:1])
    atol = _TOLERANCE_IF_SINGULAR[precision]
    np.testing.assert_allclose(codes, 1 / num_latents, atol=atol)
    np.testing.assert_allclose(codes.sum(), 1, atol=_TOLERANCE[precision])


@pytest.mark.parametrize("num_latents", [48, 96, 192, 384])
def test_dependent_columns_leave_the_codes_finite(num_latents):
    """All columns in a cone of the truth's span, as no training would leave them."""
    mixtures = np.abs(np.random.default_rng(1).normal(size=(num_latents, 24)))
    dictionary = mixtures @ _unit_rows(24, 100)
    dictionary /= np.linalg.norm(dictionary, axis=1, keepdims=True)
    assert np.isfinite(_least_squares(dictionary, dictionary[:5])).all()


@pytest.mark.parametrize("width", [9, 12, 30])
def test_padding_changes_no_code(precision, width):
    dictionary, x = _unit_rows(8, 10), _unit_rows(7, 10, seed=1)
    padded = np.zeros((width, 10))
    padded[:8] = dictionary
    codes = _least_squares(padded, x)
    np.testing.assert_allclose(
        codes[:, :8],
        _least_squares(dictionary, x),
        atol=_TOLERANCE_IF_SINGULAR[precision],
    )
    assert (codes[:, 8:] == 0).all()


@pytest.mark.parametrize("num_latents", [9, 14])
def test_a_guard_bounds_what_singular_values_are_inverted_to(precision, num_latents):
    dictionary, x = _unit_rows(num_latents, 12), _unit_rows(5, 12, seed=1)
    guard = 0.1
    left, values, right = np.linalg.svd(dictionary.T, full_matrices=False)
    inverse = (1 - (guard / (values**2 + guard)) ** 2) / values
    assert inverse.max() < 0.79 / guard**0.5 < 1 / values.min()
    params = SparseCoding(jnp.asarray(dictionary), guard=guard)
    found = jax.jit(sparse_coding.least_squares)(params, jnp.asarray(x))
    np.testing.assert_allclose(found, x @ left * inverse @ right, rtol=1e-4, atol=1e-4)


def test_a_cpu_factors_no_batch_of_matrices():
    """A batch is split over threads that may all be waiting for such a batch."""
    codes = jax.jit(jax.vmap(sparse_coding.least_squares))
    params = SparseCoding(jnp.ones((3, 24, 100)), jnp.zeros(3), jnp.zeros(3))
    text = codes.lower(params, jnp.ones((3, 20, 100))).compile().as_text()
    calls = [line for line in text.splitlines() if "lapack_" in line]
    assert calls
    for call in calls:
        assert "f32[24,24]" in call and "f32[3," not in call


def test_least_squares_has_the_gradient_of_the_pseudo_inverse():
    with jax.enable_x64(True):
        dictionaries = jnp.asarray(_unit_rows(2, 4, 6))
        x = jnp.asarray(_unit_rows(2, 3, 6, seed=1))
        codes = jax.vmap(
            lambda dictionary, x: sparse_coding.least_squares(
                SparseCoding(dictionary), x
            )
        )
        check_grads(jax.jit(codes), (dictionaries, x), order=1, rtol=1e-5)


@pytest.mark.parametrize("num_latents", [3, 12])
def test_a_dictionary_of_zeros_has_codes_of_zeros(precision, num_latents):
    assert not _least_squares(np.zeros((num_latents, 10)), np.ones((2, 10))).any()


def test_rows_of_any_size_become_unit_vectors_of_finite_gradient(precision):
    info = np.finfo(precision)
    powers = np.arange(info.minexp + 24, info.maxexp - 2, info.maxexp // 32)
    random = np.random.default_rng(0).normal(size=(powers.size, 7)).clip(-3, 3)
    rows = np.ldexp(random, powers[:, None]).astype(precision)
    exact = np.ldexp(rows.astype(np.float64), -powers[:, None])  # of ordinary size
    lengths = np.linalg.norm(exact, axis=1, keepdims=True)
    exact /= lengths
    unit = _normalise(rows)
    np.testing.assert_allclose(unit, exact, rtol=1e-5, atol=4 * info.eps)
    weights = np.arange(7.0)
    gradient = jax.grad(lambda rows: (sparse_coding.normalise(rows) @ weights).sum())
    found = np.asarray(jax.jit(gradient)(rows), np.float64)
    assert np.isfinite(found).all()
    along = (weights - (exact @ weights)[:, None] * exact) / lengths
    normal = np.abs(powers) < info.maxexp - 24  # where the gradient's numbers are
    np.testing.assert_allclose(
        np.ldexp(found, powers[:, None])[normal], along[normal], rtol=1e-4, atol=1e-4
    )


def test_a_row_of_zeros_stays_and_has_no_gradient():
    rows = np.repeat([[0.0], [1.0]], 3, axis=1)
    assert not np.any(_normalise(rows)[0])
    gradient = jax.grad(lambda rows: sparse_coding.normalise(rows)[0].sum())
    assert not np.any(jax.jit(gradient)(rows))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_row_that_is_not_finite_shows(value):
    rows = np.ones((2, 3))
    rows[0, 0] = value
    unit = np.asarray(_normalise(rows))
    assert np.isnan(unit[0]).any() and np.isfinite(unit[1]).all()


def test_init_draws_unit_columns_that_do_not_depend_on_the_width():
    init = jax.jit(sparse_coding.init, static_argnums=(1, 2))
    wide = init(jax.random.key(0), 9, 20).dictionary
    narrow = init(jax.random.key(0), 6, 20).dictionary
    np.testing.assert_array_equal(wide[:6], narrow)
    np.testing.assert_allclose(np.linalg.norm(wide, axis=1), 1, rtol=1e-6)
    with jax.enable_x64(True):
        double = init(jax.random.key(0), 9, 20).dictionary
    assert double.dtype == np.float64
    np.testing.assert_allclose(wide, double, rtol=1e-6, atol=1e-7)


def test_gradient_is_that_of_half_the_mean_squared_error():
    dictionary, x = _unit_rows(6, 10), _unit_rows(7, 10, seed=1)
    h = np.random.default_rng(2).random((7, 6))

    def loss(dictionary):
        return sparse_coding.squared_error(SparseCoding(dictionary), x, h).mean() / 2

    np.testing.assert_allclose(
        jax.jit(sparse_coding.gradient)(h @ dictionary - x, h),
        jax.jit(jax.grad(loss))(dictionary),
        atol=1e-6,
    )


@pytest.mark.parametrize("gamma", [5.0, 10.0, 90.0, 170.0])
def test_columns_of_a_pair_stand_at_the_angle(gamma):
    columns = np.asarray(data.paired_columns(jax.random.key(0), gamma).dictionary)
    assert columns.shape == (24, 100)
    np.testing.assert_allclose(np.linalg.norm(columns, axis=1), 1, rtol=1e-6)
    cosines = (columns[::2] * columns[1::2]).sum(1)
    np.testing.assert_allclose(np.rad2deg(np.arccos(cosines)), gamma, rtol=1e-3)


@pytest.mark.parametrize("sparsity", [1, 5, 24])
def test_samples_are_sparse_mixtures(sparsity):
    truth = data.paired_columns(jax.random.key(0), 10.0)
    x, h = map(
        np.asarray, sparse_coding.sample(jax.random.key(1), truth, sparsity, 4000)
    )
    np.testing.assert_array_equal((h > 0).sum(1), sparsity)
    np.testing.assert_allclose(h.sum(1), 1, rtol=1e-5)
    np.testing.assert_allclose(x, h @ np.asarray(truth.dictionary), atol=1e-6)
    np.testing.assert_allclose((h > 0).mean(0), sparsity / 24, atol=0.04)


def test_a_data_set_holds_its_samples_and_truth():
    dataset = data.make(jax.random.key(0), 5.0, num_samples=30)
    assert dataset.name == "gamma5"
    assert dataset.samples.shape == (30, 100)
    other = data.make(jax.random.key(1), 5.0, num_samples=30)
    assert (dataset.truth.dictionary != other.truth.dictionary).all()


@pytest.mark.parametrize("gamma", [0.0, 180.0, -5.0, float("nan")])
def test_an_angle_out_of_range_is_refused(gamma):
    with pytest.raises(ValueError, match=r"expected an angle gamma above 0 .* got"):
        data.make(jax.random.key(0), gamma)


@pytest.mark.parametrize("sparsity", [0, 25])
def test_a_sparsity_out_of_range_is_refused(sparsity):
    with pytest.raises(ValueError, match=f"sparsity from 1 to 24, .* got {sparsity}"):
        data.make(jax.random.key(0), 10.0, sparsity)


def test_no_samples_are_refused():
    with pytest.raises(ValueError, match="expected at least 1 sample, got 0"):
        data.make(jax.random.key(0), 10.0, num_samples=0)


@pytest.mark.parametrize("gamma", [5, 10])
def test_published_columns_stand_at_the_angle(release_dir, gamma):
    truth = release.read_published_truth(release_dir, f"gamma{gamma}")
    columns = np.asarray(truth.dictionary)
    assert columns.shape == (24, 100)
    cosines = (columns[::2] * columns[1::2]).sum(1)
    np.testing.assert_allclose(np.rad2deg(np.arccos(cosines)), gamma, rtol=1e-3)
    dataset = data.from_truth("gamma", jax.random.key(0), truth, num_samples=10)
    assert dataset.samples.shape == (10, 100)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("2 2\n1 0\n0 nan\n", "expected finite numbers in line 3, got NaN"),
        ("2 2\n1 0\n0\n", "expected 2 numbers in each row, got 1 in row 2"),
        ("2 2\n1 0\n", "expected 2 rows after the first line, got 1"),
        ("2\n1 0\n0 1\n", "expected the numbers of rows and of columns in line 1"),
        ("2 2\n1 0\n0 x\n", "expected numbers in line 3, got '0 x'"),
        ("2 2\n1 0\n0 2\n", "expected columns of length 1, got one of length 2"),
        ("", "expected numbers, got an empty file"),
    ],
)
def test_a_malformed_matrix_is_refused_in_one_line(tmp_path, text, message):
    folder = tmp_path / "sparsecoding" / "datasets" / "mine" / "true_params"
    folder.mkdir(parents=True)
    (folder / "matrix.txt").write_text(text)
    with pytest.raises(ValueError, match=message) as error:
        release.read_published_truth(tmp_path, "mine")
    assert "\n" not in str(error.value)


def test_a_missing_data_set_is_refused_by_name(tmp_path):
    (tmp_path / "sparsecoding" / "datasets" / "gamma5").mkdir(parents=True)
    with pytest.raises(ValueError, match="gamma7, got only gamma5"):
        release.read_published_truth(tmp_path, "gamma7")


def _learned(seed):
    """A truth, and its columns disturbed, repeated and mixed with others."""
    random = np.random.default_rng(seed)
    truth = np.asarray(data.paired_columns(jax.random.key(seed), 5.0, 4, 30).dictionary)
    columns = np.concatenate([truth, truth[:4], _unit_rows(4, 30, seed=seed)])
    columns += 0.008 * random.normal(size=columns.shape)
    columns /= np.linalg.norm(columns, axis=1, keepdims=True)
    usage = np.round(random.random(16), 1)
    return truth, random.permutation(columns), usage


def _match(distance, candidates):
    """{truth: latent} by SciPy."""
    rows, columns = scipy.optimize.linear_sum_assignment(distance[:, candidates])
    return {
        row: candidates[column]
        for row, column in zip(rows, columns, strict=True)
        if distance[row, candidates[column]] < 0.002
    }


def _filter(columns, usage):
    """Which columns survive: no active column that outranks them is near."""
    order = sorted(range(len(usage)), key=lambda k: (-usage[k], k))
    active = [k for k in order if usage[k] > 0]
    return sorted(
        k
        for rank, k in enumerate(active)
        if all(((columns[k] - columns[j]) ** 2).sum() > 0.002 for j in active[:rank])
    )


_recover_by_usage = jax.jit(sparse_coding.recover_by_usage)


@pytest.mark.parametrize("seed", range(6))
def test_recovery_agrees_with_scipy_and_a_plain_filter(seed):
    truth, columns, usage = _learned(seed)
    padded = np.concatenate([columns, np.zeros((3, 30))])
    recovery = _recover_by_usage(
        SparseCoding(jnp.asarray(truth)),
        SparseCoding(jnp.asarray(padded)),
        jnp.arange(19) < 16,
        jnp.asarray(np.concatenate([usage, np.zeros(3)])),
    )
    distance = ((truth[:, None] - columns) ** 2).sum(-1)
    matched = _match(distance, list(range(16)))
    kept = _filter(columns, usage)
    assert 0 < len(matched) <= 8
    assert {t: k for t, k in enumerate(recovery.matched.tolist()) if k >= 0} == matched
    assert np.flatnonzero(recovery.kept).tolist() == kept
    assert np.flatnonzero(recovery.discarded).tolist() == [
        k for k in range(16) if usage[k] == 0
    ]
    assert recovery.num_recovered_after_filter == len(_match(distance, kept))


def test_usage_is_the_share_of_samples_with_a_column_active():
    params = SparseCoding(jnp.eye(3, 5))
    x = jnp.array([[1.0, 0.004, 0, 0, 0], [0.5, 0.2, -1, 0, 0]])
    usage = jax.jit(sparse_coding.usage)(params, x)
    np.testing.assert_allclose(usage, [1.0, 0.5, 0.0])


def _turned(distance):
    """The first unit vectors, the first one turned by that squared distance."""
    columns = np.eye(3, 5)
    cosine = 1 - distance / 2
    columns[0, [0, 4]] = cosine, np.sqrt(1 - cosine**2)
    return columns


_recover = jax.jit(sparse_coding.recover)


@pytest.mark.parametrize(("distance", "is_near"), [(0.0019, True), (0.0021, False)])
def test_a_column_matches_and_repeats_what_is_within_a_squared_distance(
    distance, is_near
):
    truth, model = SparseCoding(jnp.eye(3, 5)), SparseCoding(_turned(distance))
    assert _recover(truth, model).matched.tolist() == [0 if is_near else -1, 1, 2]
    columns = np.concatenate([np.eye(1, 5), _turned(distance)[:2]])
    for usage in ([0.2, 0.1, 0.3], [0.1, 0.2, 0.3]):
        found = _recover_by_usage(
            truth, SparseCoding(jnp.asarray(columns)), jnp.ones(3), jnp.array(usage)
        )
        rarer = np.arange(3) == np.argmin(usage)
        assert found.duplicate.tolist() == (rarer & is_near).tolist()


def test_a_column_that_no_held_out_sample_needs_is_unused():
    truth = SparseCoding(jnp.eye(3, 5))
    held_out = jnp.array([[0.5, 0, 0.0051, 0, 0], [0, 0.0049, 0, 0, 1]])
    found = _recover(truth, truth, None, held_out)
    assert found.discarded.tolist() == [False, True, False]
    assert (found.num_recovered, found.num_recovered_after_filter) == (3, 2)
    live = jnp.array([0.0, 1, 1])
    assert _recover(truth, truth, live, held_out).kept.tolist() == [False, False, True]
    assert _recover(truth, truth, live).kept.tolist() == [False, True, True]
