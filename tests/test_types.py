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
# Name, type and description of a parameter.
DOCUMENTED = re.compile(r"^(\w+)(?:, \w+)* : ((?:.*\\\n)*.*)\n((?:(?: .*)?\n)*)", re.MULTILINE)
QUOTED = re.compile(r'"([^"\s]+)"')
# Any string; array-likes, whose type is one of strings, too, are known by being one of numbers.
FREE = {"radius", "device", "name", "path", "estimator_name", "region_name", "setting", "loss_name"}


def words_of(hint):
    """Return the strings among the values of a type, at any depth."""
    if get_origin(hint) is Literal:
        return {word for word in get_args(hint) if isinstance(word, str)}
    return set().union(*map(words_of, get_args(hint)))


def documented(name, parameter):
    """Return the words that a docstring gives as a parameter's type, or else describes.

    None where it is described elsewhere.
    """
    owner = name.removesuffix(".__init__")
    found = skinv
    for part in owner.split(".")[1:]:
        found = getattr(found, part)
    for each, kind, description in DOCUMENTED.findall(inspect.getdoc(found) + "\n"):
        if each == parameter:
            kind = kind.partition("default=")[0]
            return set(QUOTED.findall(kind if QUOTED.search(kind) else description)) or None
    return None


def test_words_are_those_of_the_docstring():
    """Each string that is documented as a value is one of the type, and the other way round."""
    count = 0
    for name, function in FUNCTIONS.items():
        hints = get_type_hints(function)
        for parameter in inspect.signature(function).parameters:
            words = words_of(hints.get(parameter))
            found = documented(name, parameter) if words else None
            if found is not None:
                count += 1
                assert words == found, (name, parameter)
    assert count > 40


def test_no_string_with_words_is_any_string():
    """Where a string is a default, or the documentation counts words, the type is no plain str."""
    for name, function in FUNCTIONS.items():
        hints = get_type_hints(function)
        for parameter in inspect.signature(function).parameters:
            if parameter not in FREE:
                kinds = get_args(hints.get(parameter)) or (hints.get(parameter),)
                assert str not in kinds or complex in kinds, (name, parameter)


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
