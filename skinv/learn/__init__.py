"""Estimators that learn inverses, what trains them, and what evaluates them."""
