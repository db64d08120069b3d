"""A second look at a certificate: the module itself, on a few inputs."""

from functools import partial

import torch
from torch import nn

from ._certificates import PolynomialLipschitz
from ._coefficients import evaluated
from ._rules import NORM_ORDERS
from ._state import tensors
from ._tracing import concrete, run
from ._values import HOW_TO


def check(
    module: nn.Module,
    graph: torch.fx.Graph,
    shape: tuple[int, ...],
    certificate: PolynomialLipschitz,
    rounding: float,
) -> None:
    """Compare graph and certificate with the module itself on a few inputs, or raise.

    A graph does not show everything that Python does, and a rule of a user may be wrong. This is
    no proof of anything; it catches gross errors, beyond the `rounding` of values.
    """
    generator = torch.Generator().manual_seed(0)
    name = type(module).__name__

    def size(tensor: torch.Tensor) -> float:
        largest = tensor.abs().max().clamp(min=torch.finfo(torch.float64).tiny)
        shares = (tensor / largest).flatten()
        return float(largest * torch.linalg.vector_norm(shares, NORM_ORDERS[certificate.norm]))

    points = [
        scale * torch.randn((1, *shape), generator=generator, dtype=torch.float64)
        for scale in (0.0, 0.01, 0.1, 1.0, 1.0, 10.0, 100.0)
    ]
    found = []
    for x in points:
        expected, repeated = (tensors(module(x.clone())) for _ in range(2))
        traced = tensors(run(graph, x.clone(), partial(concrete, module=module)))
        for a, b, c in zip(expected, repeated, traced, strict=True):
            if not (_close(a, b) and _close(a, c)):
                raise ValueError(
                    f"The graph that torch.fx makes of {name} computes something else than its "
                    f"forward method, which may change tensors in place, branch, draw at random or "
                    f"remember. {HOW_TO}"
                )
        found.append(expected[0])
    _refuse_mixing(module, points[3:5], found[3:5])
    for i, (x, fx) in enumerate(zip(points, found, strict=True)):
        if not fx.isfinite().all():  # overflow: the bound is no smaller
            continue
        noise = 1e-12 * size(fx) + 4 * rounding
        held = size(fx) <= evaluated(certificate.B, size(x)) * (1 + 1e-9) + noise + 1e-300
        for y, fy in zip(points[:i], found[:i], strict=True):
            if not fy.isfinite().all():
                continue
            P = evaluated(certificate.P, max(size(x), size(y)))
            held &= size(fx - fy) <= P * size(x - y) * (1 + 1e-9) + noise
        if not held:
            raise ValueError(
                f"The certificate {certificate} does not hold for {name}: a registered rule is "
                f"wrong, or forward does what its graph does not show."
            )


def _close(a: torch.Tensor, b: torch.Tensor) -> bool:
    return a.shape == b.shape and torch.allclose(a, b, 1e-9, 1e-12, equal_nan=True)


def _refuse_mixing(
    module: nn.Module, points: list[torch.Tensor], found: list[torch.Tensor]
) -> None:
    """Raise if a batch of two gives something else than its samples one by one."""
    try:
        both = tensors(module(torch.cat(points)))[0]
    except (RuntimeError, ValueError, IndexError):
        return  # made for a batch of one
    if not _close(both, torch.cat(found)):
        raise ValueError(
            f"Got a {type(module).__name__} that treats the samples of a batch together, so that "
            f"it is no function of one input. Recurrent and attention layers with "
            f"batch_first=False take the first axis for the sequence."
        )
