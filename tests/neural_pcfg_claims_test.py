"""The claims about grammars: verdicts follow the tables."""

import pytest

from experiments import neural_pcfg_claims as claims
from experiments.cli.tables import Tables
from experiments.cli.verdicts import Table, Verdict
from lvm_jax.files import table

_SPREAD = (-0.02, 0.01, 0.0, 0.02, -0.01, 0.03, -0.03, 0.01, 0.0, -0.01)
_SIZES = "1. Larger grammars learn and recover more"
_STILL = "3. Larger still"


def _rows(size, nll, f1, num_seeds=10):
    """Runs of grammars of a size, around a test NLL per word and an F1."""
    return [
        {
            "dataset": "random grammar 0, sharpness 5",
            "level": f"{size}x{size}",
            "setting": "batched",
            "seed": seed,
            "test_nll": nll + of,
            "test_f1": f1 - of,
            "num_discarded": 1,
            "num_kept": 8,
            "num_nonterminals_recovered": 9,
            "num_recovered": 7,
            "num_recovered_after_filter": 7,
            "diverged": False,
        }
        for seed, of in enumerate(_SPREAD[:num_seeds])
    ]


def _write(folder, **cells):
    for name, rows in cells.items():
        table.write_rows(folder / f"{name}.csv", rows)


def _blocks(folder, section):
    blocks = list(claims.CLAIMS.sections[section](Tables(folder)))
    says = {of.claim.split(" (")[0]: of.says for of in blocks if type(of) is Verdict}
    return [of for of in blocks if type(of) is Table], says


@pytest.mark.parametrize(
    ("nll", "f1", "learns", "recovers"),
    [
        ((2.5, 2.4), (0.8, 0.9), "holds", "holds"),
        ((2.5, 2.5), (0.8, 0.9), "undecided", "holds"),
        ((2.4, 2.5), (0.9, 0.8), "refuted", "refuted"),
    ],
)
def test_larger_grammars_have_less_nll_and_better_trees(
    tmp_path, nll, f1, learns, recovers
):
    rows = [
        of
        for size, *to in zip((10, 20), nll, f1, strict=True)
        for of in _rows(size, *to)
    ]
    _write(tmp_path, R0_main=rows)
    (compared, symbols), says = _blocks(tmp_path, _SIZES)
    assert says == {
        "test log-likelihood per word, nats": {"R0": learns},
        "F1": {"R0": recovers},
    }
    assert compared.lines[0][:4] == [
        "R0",
        "10",
        "10",
        f"-{nll[0]:.3f} [-{nll[0] + 0.013:.3f}, -{nll[0] - 0.013:.3f}]",
    ]
    assert symbols.lines[0][2].startswith("9.0 [") and len(symbols.lines) == 2


def test_more_symbols_have_to_be_better_than_10_and_near_20(tmp_path):
    main = [*_rows(10, 2.5, 0.8), *_rows(20, 2.4, 0.95)]
    larger, largest = _rows(30, 2.4, 0.96), _rows(60, 2.42, 0.85, 4)
    _write(tmp_path, R0_main=main, R0_larger=larger, R0_largest=largest)
    (compared, symbols, less), says = _blocks(tmp_path, _STILL)
    assert [line[1] for line in compared.lines] == ["10", "30", "60"]
    assert [line[1] for line in symbols.lines] == ["10", "20", "30", "60"]
    assert less.lines[0][2].startswith("+0.010 [")
    assert set(says["F1"].values()) == {"holds"}
    lost = says["less than 0.05 of F1 lost"]
    assert lost == {"R0 at 30": "holds", "R0 at 60": "refuted"}


def test_runs_that_are_lacking_leave_claims_open(tmp_path):
    rows = [*_rows(10, 2.5, 0.8, 6), *_rows(20, 2.4, 0.9, 6)]
    _write(tmp_path, R0_main=rows)
    _, says = _blocks(tmp_path, _SIZES)
    assert says["F1"]["R0"] == "not decided: runs are lacking, so far holds"
    assert _blocks(tmp_path, _STILL) == ([], {})
    ((name, _),) = claims.CLAIMS.draw(Tables(tmp_path))
    assert name == "grammars"
    assert not list(claims.CLAIMS.draw(Tables(tmp_path / "none")))
