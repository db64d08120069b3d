"""Proven bounds on the error of one inverse, of the Taylor series, and of a model on a region."""

from ._residual import residual_bound

__all__ = ["residual_bound"]
