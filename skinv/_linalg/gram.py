"""Rectangular matrices of full rank by the Gram matrix of their shorter side.

With G = AAᴴ for m <= n the pseudo-inverse is AᴴG⁻¹, and else G = AᴴA and it is G⁻¹Aᴴ.
"""

from typing import Any

from .._arrays.conversion import is_complex, is_tensor, namespace
from .products import product


def adjoint(M: Any) -> Any:
    """Return the conjugate transposes of a stack, of real ones a view."""
    M = M.swapaxes(1, 2)
    if not is_complex(M):
        return M
    return M.conj() if is_tensor(M) else namespace(M).conj(M)


def gram(A: Any) -> Any:
    """Return the smaller ones of AAᴴ and AᴴA of a stack (k, m, n)."""
    return product(adjoint(A), A) if A.shape[1] > A.shape[2] else product(A, adjoint(A))


def from_gram(A: Any, inverse: Any) -> Any:
    """Return pseudo-inverses (k, n, m) of a stack (k, m, n) from inverses of its Gram matrices."""
    H = adjoint(A)
    return product(inverse, H) if A.shape[1] > A.shape[2] else product(H, inverse)
