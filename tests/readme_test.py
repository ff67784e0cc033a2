"""What README and the docstrings of the package show does run."""

import doctest
import pathlib
import re

import numpy as np
import pytest
from layers_test import FAMILIES

import lvm_jax
from lvm_jax import noisy_or

_TESTS = pathlib.Path(__file__).parent
_README = _TESTS.parent / "README.md"


@pytest.mark.slow  # Compiles all that it shows.
def test_the_example_of_readme_runs(tmp_path, monkeypatch):
    (example,) = re.findall(r"```python\n(.*?)```", _README.read_text(), re.DOTALL)
    assert len(example.splitlines()) <= 40
    monkeypatch.chdir(tmp_path)
    samples = np.asarray(noisy_or.make("IMG", lvm_jax.key(0), 300).samples)
    np.savetxt("mine.csv", samples.astype(int), fmt="%d", delimiter=",")
    names, drawn = {}, "num_samples=2000"
    assert drawn in example
    exec(example.replace(drawn, "num_samples=300"), names)
    results = names["results"]
    claims = re.findall(r"^(?:\w+ = )?(.+?)  # \[([\d, ]+)\]", example, re.MULTILINE)
    assert len(claims) == 5
    for expression, shape in claims:
        is_last = "num_recovered" in expression
        of = names if is_last else names | {"results": names["again"]}
        value = eval(expression, of)
        assert list(value.shape) == [int(size) for size in shape.split(",")], expression
    assert results.num_truths == 8
    assert (tmp_path / "runs" / "con8" / "figures" / "full_recovery.png").exists()


@pytest.mark.slow  # Compiles all that it shows.
@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_the_example_of_a_family_s_face_runs(name):
    failed, tried = doctest.testmod(getattr(lvm_jax, name))
    assert tried and not failed


def test_every_promise_has_its_test():
    _, table = _README.read_text().split(
        "| promise | held by, in `tests/` |\n|---|---|\n"
    )
    rows = table.split("\n\n")[0].splitlines()
    assert len(rows) > 10
    for row in rows:
        named = re.findall(r"`(\w+_test\.py)::(\w+)`", row)
        assert named, row
        for file, name in named:
            assert f"def {name}(" in (_TESTS / file).read_text(), name
