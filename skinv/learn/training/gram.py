"""What the normal equations are made of: activation jets, and Gram matrices in blocks."""

import torch

# Below this many columns one product is faster than the blocks of a triangle.
_BLOCKED = 400


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
