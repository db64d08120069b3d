"""Numerics on stacks of matrices: products, norms with their rounding, scaling, inverses."""
