"""The claims about sparse coding: verdicts follow the tables."""

import pytest

from experiments import sparse_coding_claims as claims
from experiments.cli.tables import Tables
from experiments.cli.verdicts import Table, Verdict
from lvm_jax.files import table

_FEW = (9, 12, 8, 11, 10, 13, 9, 10)
_SAME = (10, 11, 9, 10, 11, 12, 8, 11)
_MANY = (20, 22, 19, 21, 23, 20, 22, 21)
_ALL = (24, 24, 23, 24, 24, 24, 24, 24)
_INVERTED = "small singular values are inverted"
_FITS, _SLOW = "the encoder fits every sample", "they are slow"
_WHY = "3. What holds 96 columns of 100 variables back"


def _rows(level, numbers, step_size=0.1, guard=0.0):
    return [
        {
            "dataset": "gamma10",
            "level": level,
            "setting": f"guard={guard:g}" if guard else f"step_size={step_size:g}",
            "step_size": step_size,
            "guard": guard,
            "seed": seed,
            "epoch": 1000,
            "num_discarded": max(level - 26, 0),
            "num_kept": 26,
            "num_recovered": number,
            "num_recovered_after_filter": number,
            "diverged": False,
        }
        for seed, number in enumerate(numbers)
    ]


def _blocks(folder, section):
    return list(claims.CLAIMS.sections[section](Tables(folder)))


def _why(folder, plain, guards, hidden, fast, few=_MANY):
    rates = [*_rows(48, few), *_rows(48, _ALL, 0.3)]
    rates += [*_rows(96, plain), *_rows(96, fast, 0.3)]
    table.write_rows(folder / "gamma10_rates.csv", rates)
    of_guards = (
        _rows(96, of, guard=g) for g, of in zip((0.001, 0.01), guards, strict=True)
    )
    table.write_rows(
        folder / "gamma10_guards.csv", [*next(of_guards), *next(of_guards)]
    )
    table.write_rows(folder / "gamma10_masked.csv", _rows(96, hidden, guard=0.001))
    return _blocks(folder, _WHY)


def _says(blocks):
    because = "96 recover fewer because "
    verdicts = (block for block in blocks if isinstance(block, Verdict))
    return {of.claim.removeprefix(because): of.says for of in verdicts}


def _so_far(blocks):
    """What verdicts say so far, where two of the cells are lacking."""
    lacking = "not decided: runs are lacking, so far "
    says = _says(blocks)
    texts = [text for of in says.values() for text in of.values()]
    assert all(text.startswith(lacking) for text in texts)
    return {
        reason: {part: text.removeprefix(lacking) for part, text in of.items()}
        for reason, of in says.items()
    }


def test_a_reason_is_what_helps_where_it_is_taken_away(tmp_path):
    less = (1, 2, 0, 2, 3, 1, 0, 1)
    assert _so_far(_why(tmp_path, _FEW, (less, less), _SAME, _ALL)) == {
        _INVERTED: {"a reason": "refuted"},
        _FITS: {"a reason": "holds", "the whole reason": "refuted"},
        _SLOW: {"a reason": "holds", "the whole reason": "undecided"},  # No long runs.
    }
    says = _so_far(_why(tmp_path, _FEW, (less, _MANY), _ALL, _SAME))
    assert says[_INVERTED] == {"a reason": "holds", "the whole reason": "holds"}
    assert says[_FITS]["the whole reason"] == "holds"
    assert says[_SLOW] == {"a reason": "undecided"}


def test_what_hides_is_compared_with_the_guard_that_it_needs(tmp_path):
    less = (1, 2, 0, 2, 3, 1, 0, 1)
    says = _so_far(_why(tmp_path, _FEW, (less, less), less, _ALL))
    assert says[_FITS] == {"a reason": "undecided"}


def test_nothing_is_refuted_by_a_part_of_what_was_to_be_tried(tmp_path):
    less = (1, 2, 0, 2, 3, 1, 0, 1)
    _why(tmp_path, _FEW, (less, less), _SAME, _ALL)
    table.write_rows(tmp_path / "gamma10_guards.csv", _rows(96, less, guard=0.001))
    assert _so_far(_blocks(tmp_path, _WHY))[_INVERTED] == {"a reason": "undecided"}


@pytest.mark.parametrize(("long", "verdict"), [(_ALL, "holds"), (_FEW, "refuted")])
def test_it_is_the_whole_reason_if_longer_runs_show_it_too(tmp_path, long, verdict):
    table.write_rows(tmp_path / "gamma10_main.csv", _rows(48, 4 * _ALL))
    table.write_rows(tmp_path / "gamma10_long.csv", _rows(96, long))
    says = _says(_why(tmp_path, _FEW, (_FEW, _FEW), _SAME, _ALL))
    assert says[_SLOW] == {"a reason": "holds", "the whole reason": verdict}
    table.write_rows(tmp_path / "gamma10_main.csv", _rows(48, _ALL))
    found = _says(_blocks(tmp_path, _WHY))[_SLOW].values()
    assert all(text.startswith("not decided: runs are lacking") for text in found)


def test_where_nothing_is_lost_there_is_nothing_to_explain(tmp_path):
    *_, verdict = _why(tmp_path, _MANY, (_FEW, _FEW), _SAME, _ALL)
    assert verdict.claim == "96 recover fewer than 48"
    assert verdict.says["gamma10"].endswith("undecided")


def test_longer_runs_are_compared_with_those_of_the_main_table(tmp_path):
    main = [*_rows(24, _FEW), *_rows(48, _ALL)]
    table.write_rows(tmp_path / "gamma10_main.csv", main)
    table.write_rows(tmp_path / "gamma10_long.csv", _rows(96, _ALL))
    blocks = _why(tmp_path, _FEW, (_FEW, _FEW), _SAME, _ALL)
    (lines,) = (block.lines for block in blocks if isinstance(block, Table))
    assert lines[-1][0] == "96 as they are, 3000 epochs"
    assert lines[-1][-1].startswith("+0.00 [")
    lack, before = (of for of in blocks if isinstance(of, str))
    assert lack == "Not there: main of gamma10 (seeds 8 to 31)."
    assert "as they are: +0.00 [" in before and before.endswith("undecided.")


@pytest.mark.parametrize(
    ("few", "many", "expected"),
    [(_FEW, _MANY, "holds"), (_FEW, _SAME, "undecided"), (_MANY, _FEW, "refuted")],
)
def test_one_larger_level_decides(tmp_path, few, many, expected):
    main = [*_rows(24, few), *_rows(48, many)]
    table.write_rows(tmp_path / "gamma10_main.csv", main)
    lack, _, truths, _ = _blocks(tmp_path, "1. Larger recovers more")
    assert lack == "Not there: main of gamma10 (seeds 8 to 31), gamma5."
    assert truths.claim == "columns recovered of 24 (family of 2)"
    lacking = f"not decided: runs are lacking, so far {expected}"
    assert truths.says == {"gamma10": lacking}
