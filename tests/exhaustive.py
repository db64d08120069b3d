"""What `.ci/run` runs beside the rest: more sizes and seeds of laws that are tested anyway."""

import pytest


def exhaustive(*values):
    """Return values of a parameter that only ``pytest -m exhaustive`` tries."""
    return [pytest.param(value, marks=pytest.mark.exhaustive) for value in values]
