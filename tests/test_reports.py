"""Reports say what was to be proven, and messages what to do instead."""

import numpy as np
import pytest
import torch

import skinv
from skinv import CertifiedInverse, LinearInverseApprox, PolynomialInverseApprox
from skinv.export import to_module
from skinv.inspection import TrainingDisplay

CENTER = np.array([[3.0, 1.0], [1.0, 2.0]])
STACK = CENTER + np.linspace(-0.1, 0.1, 20)[:, None, None]
PARAMETERS = np.linspace(-1, 1, 20)[:, None]
TALL = np.arange(12.0).reshape(2, 3, 2) % 7
MODEL = CertifiedInverse(LinearInverseApprox(CENTER), tol=1e-8).fit()


def headline(report):
    return " ".join(repr(report).split("\n  ")[0].split())


@pytest.mark.parametrize(
    "function", [skinv.inv, skinv.pinv, lambda A, **kw: skinv.solve(A, np.ones(2), **kw)]
)
def test_reports_know_the_tolerance(function):
    """Without one nothing is said to be within any; with one the headline names it."""
    free, bound = (function(STACK, tol=tol, return_report=True) for tol in (None, 1e-9))
    assert (free.tol, bound.tol) == (None, 1e-9)
    assert headline(free).split(" (")[0].endswith("20 of 20 proven")
    assert "20 of 20 proven to be within tol=1e-09" in headline(bound)


def test_reports_near_a_known_matrix_know_the_tolerance():
    """It is that of the certificate, or 1e-10."""
    for near, tol in ((MODEL, 1e-8), (CENTER, 1e-10)):
        assert skinv.inv(STACK, near=near, return_report=True).tol == tol
        assert skinv.solve(STACK, np.ones(2), near=near, return_report=True).tol == tol


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_half_precision_claims_no_more_than_it_can(dtype):
    """What is said to be proven allows for the rounding of answers, and is what decided."""
    report = MODEL.report(torch.tensor(STACK).to(dtype))
    half = torch.finfo(dtype).eps / 2 if dtype.itemsize < 4 else 0.0
    assert report.tol == 1e-8 + half
    within = np.asarray(report.bound) <= report.tol
    np.testing.assert_array_equal(within, np.isin(report.status, ("predicted", "refined", "exact")))


@pytest.mark.parametrize(
    ("call", "fix"),
    [
        (lambda: skinv.inv(TALL), r"skinv\.pinv"),
        (lambda: skinv.solve(TALL, np.ones(3)), r"skinv\.pinv"),
        (lambda: skinv.inv(STACK.reshape(-1, 4)), r"X\.reshape\(-1, 2, 2\)"),
        (
            lambda: skinv.solve(STACK, np.ones((20, 2))),
            r"are b\[\.\.\., None\]",
        ),
        (lambda: MODEL.report(STACK).rows(["singular", "rejected"]), "one after the other"),
        (
            lambda: LinearInverseApprox(method="lstsq").fit(TALL).predict(STACK),
            r"a stack of shape \(n_samples, 3, 2\)",
        ),
        (
            lambda: to_module(
                PolynomialInverseApprox().fit(
                    np.linspace(-1, 1, 20)[:, None], STACK.reshape(20, 4)
                ),
                n_refine=1,
            ),
            "parameters of a family.*export it without refinement",
        ),
    ],
)
def test_messages_name_what_does_it(call, fix):
    """Pseudo-inverses for what is not square, columns for vectors, words one by one."""
    with pytest.raises(ValueError, match=fix):
        call()


def test_losses_of_a_training_of_ones_own():
    """A torch module keeps none, and the message says where to put them."""
    with pytest.raises(TypeError, match=r"TrainingDisplay\(loss_curve=losses\)\.plot\(\)"):
        TrainingDisplay.from_estimator(torch.nn.Linear(2, 2))
