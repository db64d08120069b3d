"""Whatever library numbers come in: NumPy's answers, in that library, and nothing is written to.

Over all of one matrix of libraries, dtypes and structures, for what takes matrices (..., n, n).
"""

from dataclasses import dataclass
from functools import partial

import numpy as np
import pytest
from backends import COMPLEX, DTYPES, REAL, STRUCTURES, matrices_of

from skinv import geometry, metrics
from skinv.bounds import residual_bound
from skinv.matrices import embed_complex, extract_complex
from skinv.refinement import newton_schulz

N = 3  # 4 might be two, and is asked about elsewhere


@dataclass(frozen=True)
class Case:
    """A function of matrices, and what it says of its answer."""

    call: object
    answer: str  # dtype of the answer: a name, or what is "kept", or its "real" or "complex" part
    own: bool = True  # whether the answer is in the library of its arguments; else it is NumPy's
    pair: bool = True  # whether approximate inverses are the second argument
    dtypes: tuple = DTYPES
    n: int = N


def both(A):
    """Return both bounds of the distance, one after the other."""
    found = geometry.distance_to_singularity(A, return_bounds=True)
    return np.stack([found.lower, found.upper])


host = partial(Case, answer="float64", own=False)
distance = geometry.distance_to_singularity
CASES = {
    **{
        f"residual_bound, {norm}": Case(partial(residual_bound, norm=norm), "float64")
        for norm in ("fro", "inf", "1")
    },
    "residual_bound, plain": Case(partial(residual_bound, sharp=False), "float64"),
    "residual_bound, wide": Case(partial(residual_bound, accumulate="float64"), "float64"),
    "residual_bound, doubled": Case(partial(residual_bound, accumulate="double-double"), "float64"),
    "newton_schulz, doubled": Case(partial(newton_schulz, accumulate="double-double"), "kept"),
    **{
        f"newton_schulz, order {order}": Case(partial(newton_schulz, order=order), "kept")
        for order in (2, 3, 4)
    },
    "newton_schulz, no step": Case(partial(newton_schulz, n_steps=0), "kept"),
    "absolute_errors": host(metrics.absolute_errors),
    "relative_errors": host(metrics.relative_errors),
    "residual_norms": host(metrics.residual_norms),
    "embed_complex": Case(embed_complex, "real", pair=False),
    "extract_complex": Case(extract_complex, "complex", pair=False, dtypes=REAL, n=2 * N),
    "distance, l2": host(distance, pair=False),
    "distance, l1": host(partial(distance, norm="l1"), pair=False, dtypes=REAL),
    "distance, linf": host(partial(distance, norm="linf"), pair=False, dtypes=REAL),
    "bounds of the distance": host(both, pair=False),
    "nearest_regular": host(
        partial(geometry.nearest_regular, min_distance=2.0), pair=False, dtypes=REAL
    ),
    **{
        f"nearest_singular, {norm}": host(
            partial(geometry.nearest_singular, norm=norm), pair=False, dtypes=REAL
        )
        for norm in ("l2", "l1", "linf")
    },
}


def arguments(case, structure, dtype):
    """Return matrices, and approximate inverses with residuals that are no rounding."""
    A = matrices_of(structure, dtype, case.n)
    if not case.pair:
        return [A]
    R = 0.02 * matrices_of(structure, dtype, N, seed=1)
    return [A, (np.linalg.inv(A) @ (np.eye(N) - R)).astype(dtype)]


def dtype_of_answer(case, dtype):
    """Return the name of the dtype that an answer should have."""
    dtype = np.dtype(dtype)
    return {
        "kept": dtype,
        "real": np.empty(0, dtype).real.dtype,
        "complex": np.result_type(dtype, np.complex64),
    }.get(case.answer, np.dtype("float64")).name


@pytest.mark.parametrize("name", CASES)
def test_answers_are_those_of_numpy(name, backend, dtype):
    """The same numbers but for rounding, in the library, dtype and shape that are documented."""
    for structure in STRUCTURES:
        assert_answer_of_numpy(CASES[name], backend, dtype, structure)


def assert_answer_of_numpy(case, backend, dtype, structure):
    if dtype not in case.dtypes:
        assert set(case.dtypes) == set(REAL)
        with pytest.raises(ValueError, match="complex"):
            case.call(*map(backend.array, arguments(case, structure, dtype)))
        return
    plain = arguments(case, structure, dtype)
    expected = np.asarray(case.call(*(array.copy() for array in plain)))
    given = [backend.array(array) for array in plain]
    before = [backend.numbers(array).tobytes() for array in given]
    found = case.call(*given)
    assert [backend.numbers(array).tobytes() for array in given] == before
    numbers = backend.numbers(found) if case.own else np.asarray(found)
    assert numbers.shape == expected.shape
    assert numbers.dtype.name == dtype_of_answer(case, dtype)
    if case.own and (backend.name != "numpy" or numbers.ndim):
        assert isinstance(found, backend.kind)
        assert found.device == given[0].device
    elif not case.own:
        assert isinstance(found, np.ndarray | float)
    # All is a few sums of N products, of numbers whose ratio to what comes of them is at most that
    # of the matrices to the residuals, about 100.
    rounding = 100 * 4 * N * np.finfo(dtype).eps
    np.testing.assert_allclose(
        numbers, expected, rtol=rounding, atol=rounding * np.abs(expected).max(initial=0.0)
    )


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.pair])
def test_libraries_are_mixed(name, backend, dtype):
    """Matrices in one library, approximate inverses in NumPy's: the same numbers again."""
    case = CASES[name]
    A, X = arguments(case, "general", dtype)
    X.flags.writeable = False
    expected = case.call(A, X)
    found = case.call(backend.array(A), X)
    assert not case.own or isinstance(found, backend.kind)
    rounding = 100 * 4 * N * np.finfo(dtype).eps
    np.testing.assert_allclose(
        np.asarray(found), expected, rtol=rounding, atol=rounding * np.abs(expected).max()
    )


@pytest.mark.parametrize("dtype", COMPLEX)
def test_embeddings_come_back(backend, dtype, structure):
    """To the bit, in the library that they came in."""
    Z = matrices_of(structure, dtype, N)
    again = extract_complex(embed_complex(backend.array(Z)))
    assert isinstance(again, backend.kind)
    np.testing.assert_array_equal(backend.numbers(again), Z)
