"""The Gauss-Newton normal equations of small perceptrons, assembled block by block.

With r the residuals (n_samples × n_outputs) and J their Jacobian, JᵀJ is made without ever forming
J. Write ã = [a, 1] for the inputs of a layer, V for the last layer's weights (n_outputs × h, the
bias left out), and f' for the derivatives of the activations. The last layer enters linearly: its
block is the same S = Σ ã ãᵀ for every output. One hidden layer z = W x̃:

    ∂r_o/∂W_jk = V_oj f'_j x̃_k,

so with P = f' ⊗ x̃ its block is (VᵀV)_jj' (PᵀP)_jk,j'k', and its coupling to the last layer of
output o is V_oj (PᵀÃ)_jk,·. Everything comes from the Gram matrix of [P, Ã]. With two hidden layers
the second is as above, on the first's activations; for the first, with D = V diag(f'₂) W₂,

    ∂r_o/∂W₁_jk = D_oj f'₁_j x̃_k,

one block of rows per output. The last layer is eliminated (Schur complement): what is factorised
has the size of the inner layers, and the last layers of all outputs share one small factorisation.
Marquardt's damping is added to the whole matrix before that, so the step is that of the full one.

P is stored with k outermost: its block P_k is f' scaled by one column of x̃, and P_kᵀP_k' is
symmetric in k and k', which halves the work.
"""

from typing import Any

import torch

# Numbers in a chunk of the matrix whose Gram matrix is formed: it stays in an L2 cache.
_CHUNK = 2**17
# Below this many columns one product is faster than the blocks of a triangle.
_BLOCKED = 400


class NormalEquations:
    """The normal equations of a perceptron at its current parameters, over given rows.

    Of one with a hidden layer all comes from the Gram matrix of [f' ⊗ x̃, ã]. Without, every output
    is a linear least-squares problem with the same matrix, and f' ⊗ x̃ has no columns.

    Layers are weights with biases as last columns. Gram matrices are of `gram_dtype`: products of
    float32 are twice as fast, and their rounding does not matter under a damping well above it.
    Residuals and gradients are float64 always.
    """

    def __init__(
        self, layers: list[torch.Tensor], activation: str, gram_dtype: torch.dtype = torch.float64
    ):
        self.layers, self.last = layers, layers[-1]
        self.activation, self.gram_dtype = activation, gram_dtype
        self.shapes = [W.shape for W in layers[:-1]]
        self.sizes = [h * d for h, d in self.shapes]
        # Of the last hidden layer, if there is one.
        self.h, self.d = self.shapes[-1] if self.shapes else (0, 0)
        self.q = self.h * self.d
        self.V = self.last[:, : self.h]
        self.VV = self.V.T @ self.V
        width = self.q + self.last.shape[1]
        self._gram = self.last.new_zeros(width, width, dtype=gram_dtype)
        self.width = width  # numbers per row that :meth:`_add` holds

    def assemble(self, x: torch.Tensor, y: torch.Tensor) -> float:
        """Add the rows to the matrix and the gradient; return their sum of squares."""
        gradients = [torch.zeros_like(W) for W in self.layers]
        total = x.new_zeros(())
        step = max(_CHUNK // self.width, 64)
        for xc, yc in zip(x.split(step), y.split(step), strict=True):
            a, derivatives = self._forward(xc)
            delta = a[-1] @ self.last.T - yc
            total += (delta * delta).sum()
            self._add(a, derivatives)
            self._pull_back(delta, a, derivatives, gradients)
        self.gradients = gradients
        self._complete()
        return float(total)

    def _forward(self, x: torch.Tensor) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """Return ã of each layer, x̃ first, and f' of each hidden layer."""
        a, derivatives = [augmented(x)], []
        for W in self.layers[:-1]:
            value, derivative, _ = activation_jet(a[-1] @ W.T, self.activation)
            a.append(augmented(value))
            derivatives.append(derivative)
        return a, derivatives

    def _pull_back(
        self,
        delta: torch.Tensor,
        a: list[torch.Tensor],
        derivatives: list[torch.Tensor],
        gradients: list[torch.Tensor],
    ) -> None:
        """Add Jᵀ times a cotangent of the outputs to the gradients."""
        for i in reversed(range(len(self.layers))):
            gradients[i] += delta.T @ a[i]
            if i:
                delta = (delta @ self.layers[i][:, :-1]) * derivatives[i - 1]

    def _add(self, a: list[torch.Tensor], derivatives: list[torch.Tensor]) -> torch.Tensor:
        """Add a chunk to the Gram matrices; return the rows that the last layers gave."""
        if not derivatives:
            self._gram += a[0].T @ a[0]
            return a[0]
        below, top, slope = (t.to(self.gram_dtype) for t in (a[-2], a[-1], derivatives[-1]))
        B = torch.cat([_kron_rows(below, slope), top], 1)
        add_gram(self._gram, B, self.h, self.d)
        return B

    def _complete(self) -> None:
        """Make ``inner``, the block of the inner layers, from the Gram matrices."""
        fill_lower(self._gram, self.h, self.d)
        gram, q = self._gram.to(self.last.dtype), self.q
        self.S, self._C = gram[q:, q:].clone(), gram[:q, q:]
        self.inner = self._weighted(gram[:q, :q])

    def _weighted(self, gram: torch.Tensor) -> torch.Tensor:
        """Multiply a matrix (q, q) by (VᵀV)_jj', what the outputs make of the units."""
        h, d = self.h, self.d
        return (gram.view(d, h, d, h) * self.VV[None, :, None, :]).reshape(self.q, self.q)

    def _coupled(self, last: torch.Tensor) -> torch.Tensor:
        """Multiply the coupling block, inner × last layer, by a matrix of the last one's shape."""
        shape = self.d, self.h, len(self.V)
        return ((self._C @ last.T).view(shape) * self.V.T[None]).sum(2).reshape(-1)

    def _coupled_transposed(self, inner: torch.Tensor) -> torch.Tensor:
        """Multiply the transposed coupling block by a vector of inner parameters."""
        weighted = inner.view(self.d, self.h, 1) * self.V.T[None]
        return weighted.reshape(self.q, len(self.V)).T @ self._C

    def _eliminated(self, factor: torch.Tensor) -> torch.Tensor:
        """Return Σ_o C_o (LLᵀ)⁻¹ C_oᵀ, what eliminating the last layer takes from ``inner``."""
        half = torch.linalg.solve_triangular(factor, self._C.T, upper=False)
        return self._weighted(half.T @ half)

    def _pack(self, inner: list[torch.Tensor]) -> torch.Tensor:
        """Put matrices of the inner layers' shapes into one vector, in the order of ``inner``."""
        return torch.cat([self.last.new_zeros(0), *(part.T.reshape(-1) for part in inner)])

    def _unpack(self, vector: torch.Tensor) -> list[torch.Tensor]:
        parts = zip(vector.split(self.sizes), self.shapes, strict=True)
        return [part.view(d, h).T.contiguous() for part, (h, d) in parts]

    def add_ridge(self, amount: float) -> None:
        """Add amount · ½‖parameters‖² to the objective ½‖r‖²."""
        if amount:
            self.inner.diagonal().add_(amount)
            self.S.diagonal().add_(amount)
            for gradient, W in zip(self.gradients, self.layers, strict=True):
                gradient.add_(W, alpha=amount)

    def factorize(self, damping: float) -> bool:
        """Factorise the matrix with its diagonal scaled by 1 + damping; False if that fails."""
        inner, last = self.inner.diagonal(), self.S.diagonal()
        # A unit that is off everywhere has a diagonal of 0; its parameters must not move freely.
        floor = 1e-10 * max(float(part.max()) for part in (inner, last) if len(part))
        self.scale = inner + floor, last + floor
        S = self.S + torch.diag(damping * self.scale[1])
        self._last_factor, info = torch.linalg.cholesky_ex(S)
        if int(info):
            return False
        schur = self.inner - self._eliminated(self._last_factor)
        schur.diagonal().add_(self.scale[0], alpha=damping)
        self._factor, info = torch.linalg.cholesky_ex(schur)
        return int(info) == 0

    def solve(self, gradients: list[torch.Tensor]) -> list[torch.Tensor]:
        """Return −(JᵀJ + damping)⁻¹ times a gradient, as matrices of the layers' shapes."""
        inner, last = self._pack(gradients[:-1]), gradients[-1]
        reduced = torch.cholesky_solve(last.T, self._last_factor).T
        right = inner - self._coupled(reduced)
        step = -torch.cholesky_solve(right[:, None], self._factor)[:, 0]
        remaining = last + self._coupled_transposed(step)
        return [*self._unpack(step), -torch.cholesky_solve(remaining.T, self._last_factor).T]

    def damped_norm(self, step: list[torch.Tensor]) -> float:
        """Return Σ scale · step², the square of the norm in which the damping holds it."""
        inner = self._pack(step[:-1])
        return float((self.scale[0] * inner * inner).sum() + (self.scale[1] * step[-1] ** 2).sum())

    def curved_gradient(self, x: torch.Tensor, step: list[torch.Tensor]) -> list[torch.Tensor]:
        """Return Jᵀ times the second directional derivative of the residuals along a step."""
        gradients = [torch.zeros_like(W) for W in self.layers]
        for xc in x.split(max(_CHUNK // sum(len(W) for W in self.layers) // 4, 64)):
            a, derivatives = [augmented(xc)], []
            first, second = torch.zeros_like(a[0]), torch.zeros_like(a[0])
            for W, dW in zip(self.layers[:-1], step[:-1], strict=True):
                z1 = first @ W.T + a[-1] @ dW.T
                z2 = second @ W.T + 2.0 * (first @ dW.T)
                value, d1, d2 = activation_jet(a[-1] @ W.T, self.activation)
                first = augmented(d1 * z1, 0.0)
                second = augmented(d2 * z1 * z1 + d1 * z2, 0.0)
                a.append(augmented(value))
                derivatives.append(d1)
            delta = second @ self.last.T + 2.0 * (first @ step[-1].T)
            self._pull_back(delta, a, derivatives, gradients)
        return gradients


class TwoHidden(NormalEquations):
    """Two hidden layers: the second as with one, the first output by output."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        new, q1 = self.last.new_zeros, self.sizes[0]
        self.width += q1
        self._first = new(q1, q1, dtype=self.gram_dtype)
        # Of the first layer with f'₂ ⊗ ã₁ and ã₂, for each output.
        self._mixed = new(len(self.V), q1, len(self._gram), dtype=self.gram_dtype)

    def _add(self, a: list[torch.Tensor], derivatives: list[torch.Tensor]) -> torch.Tensor:
        B, dtype = super()._add(a, derivatives), self.gram_dtype
        x, slope1, slope2 = (t.to(dtype) for t in (a[0], *derivatives))
        W2, V = self.layers[1][:, :-1].to(dtype), self.V.to(dtype)
        for o in range(len(V)):
            P1 = _kron_rows(x, ((slope2 * V[o]) @ W2) * slope1)
            self._first.addmm_(P1.T, P1)
            self._mixed[o].addmm_(P1.T, B)
        return B

    def _complete(self) -> None:
        super()._complete()
        second, mixed = self.inner, self._mixed.to(self.S.dtype)
        self._C1 = mixed[:, :, self.q :]
        # Between the layers: Σ_o V_oj (P₁_oᵀ P₂)_·,jk.
        mixed = mixed[:, :, : self.q].unflatten(2, (self.d, self.h))
        between = torch.einsum("oqkj,oj->qkj", mixed, self.V).reshape(-1, self.q)
        first = torch.cat([self._first.to(self.S.dtype), between], 1)
        self.inner = torch.cat([first, torch.cat([between.T, second], 1)], 0)

    def _coupled(self, last: torch.Tensor) -> torch.Tensor:
        first = torch.einsum("oqm,om->q", self._C1, last)
        return torch.cat([first, super()._coupled(last)])

    def _coupled_transposed(self, inner: torch.Tensor) -> torch.Tensor:
        first, second = inner.split(self.sizes)
        return torch.einsum("oqm,q->om", self._C1, first) + super()._coupled_transposed(second)

    def _eliminated(self, factor: torch.Tensor) -> torch.Tensor:
        out = torch.zeros_like(self.inner)
        for o, V in enumerate(self.V):
            second = (self._C.view(self.d, self.h, -1) * V[None, :, None]).flatten(0, 1)
            C = torch.cat([self._C1[o], second], 0)
            half = torch.linalg.solve_triangular(factor, C.T, upper=False)
            out.addmm_(half.T, half)
        return out


def _kron_rows(x: torch.Tensor, slope: torch.Tensor) -> torch.Tensor:
    """Return f' ⊗ x̃ row by row, with the index of x̃ outermost."""
    return (x[:, :, None] * slope[:, None, :]).view(len(x), -1)


def augmented(a: torch.Tensor, value: float = 1.0) -> torch.Tensor:
    """Append a column of a constant."""
    return torch.nn.functional.pad(a, (0, 1), value=value)


def activation_jet(
    z: torch.Tensor, activation: str
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return an activation function with its first and second derivative."""
    if activation == "relu":
        return torch.relu(z), (z > 0).to(z.dtype), torch.zeros_like(z)
    if activation == "tanh":
        value = torch.tanh(z)
        first = 1.0 - value * value
        return value, first, -2.0 * value * first
    s = torch.sigmoid(z)
    value, slope = z * s, s * (1.0 - s)
    return value, s + z * slope, slope * (2.0 + z * (1.0 - 2.0 * s))


def add_gram(gram: torch.Tensor, B: torch.Tensor, h: int, d: int) -> None:
    """Add BᵀB in place; if wide, no blocks (d of h columns, and a rest) left of the diagonal."""
    if len(gram) < _BLOCKED:
        gram.addmm_(B.T, B)
        return
    for block in _blocks(gram, h, d):
        gram[block, block.start :].addmm_(B[:, block].T, B[:, block.start :])


def fill_lower(gram: torch.Tensor, h: int, d: int) -> None:
    """Mirror the blocks that :func:`add_gram` left out, in place."""
    if len(gram) >= _BLOCKED:
        for block in _blocks(gram, h, d):
            gram[block, : block.start] = gram[: block.start, block].T


def _blocks(gram: torch.Tensor, h: int, d: int) -> list[slice]:
    return [*(slice(k * h, (k + 1) * h) for k in range(d)), slice(h * d, len(gram))]


# By number of hidden layers.
KINDS: tuple[type[NormalEquations], ...] = (NormalEquations, NormalEquations, TwoHidden)
