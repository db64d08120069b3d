"""Words in signatures are those of the documentation and of the checks; checkers find others."""

import inspect
import re
import subprocess
import sys
from pathlib import Path
from typing import Literal, get_args, get_origin, get_type_hints

import pytest
from sklearn.utils._param_validation import StrOptions
from test_comforts import public_functions

import skinv

FUNCTIONS = dict(public_functions())
# As they are in the docstring of a class, or of the function.
DOCUMENTED = re.compile(r"^ *(\w+)(?:, \w+)* : ((?:.*\\\n)*.*)", re.MULTILINE)
# Strings whose words are not counted: names, paths, devices, what else torch or dask understands.
FREE = {"device", "name", "path", "estimator_name", "region_name", "setting", "loss_name"}


def words_of(hint):
    """Return the strings among the values of a type, at any depth."""
    if get_origin(hint) is Literal:
        return {word for word in get_args(hint) if isinstance(word, str)}
    return set().union(*map(words_of, get_args(hint)))


def documented(name, parameter):
    """Return the strings that a docstring gives in braces or quotes as a parameter's type."""
    owner = name.removesuffix(".__init__")
    found = skinv
    for part in owner.split(".")[1:]:
        found = getattr(found, part)
    kinds = dict(DOCUMENTED.findall(inspect.getdoc(found) or ""))
    return set(re.findall(r'"([^"]+)"', kinds.get(parameter, "").partition(", default=")[0]))


def test_words_are_those_of_the_docstring():
    """Each string that is documented as a value is one of the type, and the other way round."""
    count = 0
    for name, function in FUNCTIONS.items():
        hints = get_type_hints(function)
        for parameter in inspect.signature(function).parameters:
            words = words_of(hints.get(parameter))
            if words:
                count += 1
                assert words == documented(name, parameter), (name, parameter)
    assert count > 40


def test_no_string_with_words_is_any_string():
    """Where a string is a default, or the documentation counts words, the type is no plain str."""
    for name, function in FUNCTIONS.items():
        hints = get_type_hints(function)
        for parameter in inspect.signature(function).parameters:
            if parameter not in FREE:
                hint = hints.get(parameter)
                assert hint is not str, (name, parameter)
                assert str not in get_args(hint) or not documented(name, parameter)


@pytest.mark.parametrize("name", [n for n in skinv.__all__ if inspect.isclass(getattr(skinv, n))])
def test_words_are_those_that_are_checked(name):
    """What `fit` accepts is what the type says."""
    estimator = getattr(skinv, name)
    hints = get_type_hints(estimator.__init__)
    for parameter, allowed in estimator._parameter_constraints.items():
        options = [each.options for each in allowed if isinstance(each, StrOptions)]
        if options and parameter != "radius":  # an array-like may be a string for NumPy's types
            assert words_of(hints[parameter]) == set().union(*options), parameter


SNIPPET = """
import numpy as np
from skinv import CertifiedInverse, FeasibleRegionSampler, LinearInverseApprox

CertifiedInverse(LinearInverseApprox(order=2), norm="inf", fallback="nan")
FeasibleRegionSampler(norm="mahalanobis")
FeasibleRegionSampler(norm="mahalanobi")
"""


@pytest.mark.exhaustive
def test_a_checker_finds_a_misspelt_norm(tmp_path):
    """With mypy as users run it: one error, in the last line."""
    file = tmp_path / "snippet.py"
    file.write_text(SNIPPET)
    command = [sys.executable, "-m", "mypy", "--follow-imports=silent", "--config-file="]
    done = subprocess.run(
        [*command, f"--cache-dir={tmp_path / 'cache'}", str(file)],
        cwd=Path(skinv.__file__).parents[1],
        capture_output=True,
        text=True,
    )
    errors = [line for line in done.stdout.splitlines() if ": error: " in line]
    assert len(errors) == 1, done.stdout + done.stderr
    assert "snippet.py:7: error" in errors[0]
    assert '"norm"' in errors[0]
