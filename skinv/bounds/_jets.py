"""Second-order expansions with remainders, over many boxes at once.

A function of A = C + Σ t_k S_k with matrix values is held as

    value + Σ t_k gradient_k + Σ t_k t_l curvature_kl ± remainder,

where t ranges over a box |t_k| <= 1, or over what a ball leaves of it, and the remainder is a bound
of every entry over all of it. All are float64 torch tensors, so that a device can do the work.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.linalg import matrix_norm

_EPS = float(torch.finfo(torch.float64).eps)


@dataclass
class Boxes:
    """Boxes {z + half·t} in the coordinates of a region {‖z‖_p <= 1}, and their matrices.

    Sides that were never halved have half-width 1 and centre 0; for p < inf the ball holds them
    together.
    """

    z: Tensor  # centres (b, d)
    half: Tensor  # half-widths (b, d)
    A: Tensor  # matrices at the centres (b, n, n)
    S: Tensor  # directions times half-widths (b, d, n, n)
    p: float  # inf, 2 or 1
    blur: float  # largest row sum of the rounding errors of A

    def __post_init__(self) -> None:
        self._whole = self.half == 1
        if self.p < torch.inf:  # what the halved sides leave of the radius
            nearest = (self.z.abs() - self.half).clamp(min=0).masked_fill(self._whole, 0.0)
            # Of the sum, which is at most 1 where the box is not empty, and its powers.
            rounding = 2 * (nearest.shape[1] + 4) * _EPS
            left = (1 - (nearest**self.p).sum(1) + rounding).clamp(min=0)
            self._left = left ** (1 / self.p) * (1 + 4 * _EPS)

    def size(self, rows: Tensor) -> Tensor:
        """Bound |Σ t_k rows_k| over the box and the ball, rows of shape (b, d, ...)."""
        rows = rows.abs()
        if self.p == torch.inf:
            return rows.sum(1)
        shape = (*self._whole.shape, *(1,) * (rows.ndim - 2))
        whole, left = self._whole.reshape(shape), self._left.reshape(-1, *shape[2:])
        dual = 2 if self.p == 2 else torch.inf
        held = torch.linalg.vector_norm(rows.masked_fill(~whole, 0.0), dual, dim=1)
        return rows.masked_fill(whole, 0.0).sum(1) + left * held

    def size2(self, rows: Tensor) -> Tensor:
        """Bound |Σ t_k t_l rows_kl| over the box and the ball, rows of shape (b, d, d, ...)."""
        b, d = rows.shape[:2]
        inner = rows.transpose(1, 2).reshape(b, d, d, -1)
        return self.size(self.size(inner)).reshape(b, *rows.shape[3:])


@dataclass
class Jet:
    """An expansion over boxes."""

    value: Tensor  # (b, n, n)
    gradient: Tensor  # (b, d, n, n)
    # (b, d, d, n, n), not symmetric in general; None leaves the second order to the remainder.
    curvature: Tensor | None
    remainder: Tensor  # (b, n, n), not negative


def inverse_jet(boxes: Boxes, second: bool) -> tuple[Jet, Tensor]:
    """Expand the inverse; bound what rounding does to any of its numbers together, too, (b,).

    With B = C⁻¹, E = Σ t_k S_k and M_k = S_k B, A⁻¹ = B − BEB + BEBEB − …; with Q >= |EB| entry
    by entry the terms from order k on are at most |B|Qᵏ(I − Q)⁻¹ if the spectral radius of Q is
    below 1 (Neumann), which also proves that the box holds no singular matrix. N = (I − Q)⁻¹ is
    not trusted: x = N·1 > 0 with Qx <= θx, θ < 1, proves the radius (Collatz) and bounds its error.
    The remainder is inf where the box could not be shown to be regular.
    """
    A, S = boxes.A, boxes.S
    b, d, n = S.shape[:3]
    eye = torch.eye(n, dtype=A.dtype, device=A.device)
    B = torch.linalg.inv_ex(A)[0].contiguous()
    M = (S.reshape(b, d * n, n) @ B).reshape(b, d, n, n)
    G = B[:, None] @ M
    # Relative error of B, from its residual; entries of Q grow by what that can make of them.
    size, extent = (matrix_norm(part, torch.inf) for part in (B, boxes.size(S)))
    off = 2 * (n + d) * _EPS * (matrix_norm(A, torch.inf) + extent) + boxes.blur
    off = matrix_norm(A @ B - eye, torch.inf) + off * size
    Q = boxes.size(M) * (1 + 4 * n * _EPS)
    Q = Q + ((2 * extent * off + underflow(d, n)) * size)[:, None, None]
    N = torch.linalg.inv_ex(eye - Q)[0]
    x, up = N.sum(2, keepdim=True), 1 + 4 * (n + 2) * _EPS
    theta = (Q @ x / x).amax(1, keepdim=True) * up
    good = ((x > 0).all(1, keepdim=True) & (theta < 1))[:, 0, 0] & (off < 1e-6)
    # N is off by (I − Q)⁻¹ times its residual, and in the norm of x that is at most 1/(1 − θ).
    residual = (eye - (eye - Q) @ N).abs() + n * _EPS * ((eye + Q) @ N.abs() + 1)
    lost = (residual / x).amax(1, keepdim=True) / (1 - theta) * up
    curvature, tail = None, B.abs() @ Q @ Q
    if second:
        curvature = G.reshape(b, d * n, n) @ M.transpose(1, 2).reshape(b, n, d * n)
        curvature = curvature.reshape(b, d, n, d, n).transpose(2, 3)
        tail = tail @ Q
    remainder = (tail @ N.clamp(min=0) + (tail @ x) @ lost) * up**4
    remainder = torch.where(good[:, None, None], remainder, torch.inf)
    reach = Q.sum(2).amax(1)
    rounding = 4 * size * off * (1 + reach) ** 2
    return Jet(B, -G, curvature, remainder), rounding


def underflow(d: int, n: int) -> float:
    """Bound a row sum of what d directions of matrices of order n lose where they underflow."""
    return 8 * (d + 4) * n * float(torch.finfo(torch.float64).tiny)


def series_jet(boxes: Boxes, center: Tensor, inverse: Tensor, order: int, second: bool) -> Jet:
    """Expand the Taylor series of the inverse at a centre, X ← B − B·E·X (Horner)."""
    b, d, n = boxes.S.shape[:3]
    start = inverse @ (boxes.A - center)  # BE = start + Σ t_k step_k
    step = inverse @ boxes.S
    extent = boxes.size(step)
    value, gradient = inverse.expand(b, n, n), torch.zeros_like(boxes.S)
    curvature = boxes.S.new_zeros(b, d, d, n, n) if second else None
    remainder = torch.zeros_like(boxes.A)
    for _ in range(order):
        remainder = (start.abs() + extent) @ remainder
        if curvature is None:  # where products of all directions would be too many numbers
            remainder = remainder + extent @ boxes.size(gradient)
        else:
            remainder = remainder + extent @ boxes.size2(curvature)
            cross = step.reshape(b, d * n, n) @ gradient.transpose(1, 2).reshape(b, n, d * n)
            cross = cross.reshape(b, d, n, d, n).transpose(2, 3)
            curvature = -(start[:, None, None] @ curvature + cross)
        gradient = -(start[:, None] @ gradient + step @ value[:, None])
        value = inverse - start @ value
    return Jet(value, gradient, curvature, remainder)
