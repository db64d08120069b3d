"""The order of the gallery, and what its overview says of each example."""

import re
from pathlib import Path

# As one learns it; what is not named here comes after, by name.
LESSONS = (
    "quickstart",
    "certified",
    "plot_power_flow",
    "plot_grid_day",
    "plot_robot_arm",
    "plot_arm_pinv",
    "plot_truss_parameters",
    "plot_kalman_bank",
    "plot_mimo",
    "plot_grid_search",
    "plot_deploy",
    "plot_covariances",
    "plot_break_it",
)


class TeachingOrder:
    """Sort key of sphinx-gallery for the files of a folder."""

    def __init__(self, src_dir):
        pass

    def __call__(self, filename):
        """Return the place of a file."""
        name = Path(filename).stem
        return (LESSONS.index(name) if name in LESSONS else len(LESSONS), name)


def first_sentences(app, docname, source):
    """Of the introductions in the overview leave the first sentences."""
    if docname == "generated/gallery/index":
        source[0] = re.sub(r'(tooltip="[^"]+?[.?!]) [^"]*"', r'\1"', source[0])
