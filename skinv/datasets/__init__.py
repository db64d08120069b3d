"""Families of matrices that lie near a known one, to learn and to test inverses on."""

from ._channels import make_channel_gram
from ._families import load_power_flow, load_robot_arm
from ._regions import make_region

__all__ = ["load_power_flow", "load_robot_arm", "make_channel_gram", "make_region"]


def __dir__() -> list[str]:
    return __all__
