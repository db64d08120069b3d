"""Inverses and solutions of linear systems with proofs of their errors."""

from ._estimator import CertifiedInverse

__all__ = ["CertifiedInverse"]
