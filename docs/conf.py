"""Sphinx settings: ``sphinx-build -W --keep-going -b html docs docs/_build/html``."""

import logging
import os
import re
import sys
from pathlib import Path

os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("TQDM_DISABLE", "1")  # no progress bars in the gallery
sys.path.insert(0, str(Path(__file__).parent))

import gallery
import landing
from docutils import nodes
from sphinx.util.logging import VERBOSE

import skinv

project = "skinv"
author = copyright = "The skinv developers"
version = release = skinv.__version__

extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.viewcode",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build"]
templates_path = ["templates"]
smartquotes = False  # quotes are those of Python
suppress_warnings = ["autosummary.import_cycle"]  # names in full, as the tables show them
nitpicky = True
# Types of other projects: links to them would need their inventories from the network.
nitpick_ignore_regex = [("py:.*", r"(numpy|sklearn|skorch)\..*")]

autodoc_typehints = "none"  # the docstrings say more
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "inherited-members": "object, BaseException"}
numpydoc_show_class_members = False
toc_object_entries_show_parents = "hide"

myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence", "deflist"]

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "generated/gallery",
    "backreferences_dir": "generated/backreferences",
    "doc_module": "skinv",
    "filename_pattern": "",  # all of them run
    "within_subsection_order": "gallery.TeachingOrder",
    "abort_on_example_error": True,
    "thumbnail_size": (800, 560),
    "capture_repr": (),  # what an example shows, it prints
    "default_thumb_file": str(Path(__file__).parent / "generated" / "landing_light.png"),
    "show_memory": False,
    "show_signature": False,
    "write_computation_times": False,
}

html_theme = "pydata_sphinx_theme"
html_title = "skinv"
html_static_path = ["static"]
html_show_sourcelink = False
html_css_files = ["skinv.css"]
html_theme_options = {
    "navigation_with_keys": False,
    "show_nav_level": 2,
    "header_links_before_dropdown": 6,
    "navbar_align": "left",
    "navbar_end": ["links", "theme-switcher"],
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": ["sphinx-version"],
}
html_sidebars = {"index": [], "inside": [], "measurements": []}


def skip_foreign(app, what, name, obj, skip, options):
    """Leave out the methods that scikit-learn's base classes define: they are documented there."""
    module = getattr(obj, "__module__", None) or ""
    return True if module.startswith("sklearn.") else None


def relink(app, path, docname, content):
    """Make the links of included pages relative to this folder, and those to each other its own."""
    content[0] = re.sub(r"\]\((?!https?:|#)", f"]({path.parent.as_posix()}/", content[0])
    for page in ("CONTRIBUTING.md", "CHANGELOG.md", "benchmarks/results/paper.md"):
        content[0] = content[0].replace(f"](../{page})", f"]({Path(page).name.lower()})")


def shorten_labels(app, env):
    """Name the pages of the reference in the navigation without their modules."""
    for page, title in env.titles.items():
        if page.startswith("generated/api/"):
            name = title.astext().rpartition(".")[2]
            for node in (title, next(env.tocs[page].findall(nodes.reference))):
                node.children = [nodes.Text(name)]


def show_output():
    """Print what the examples print: sphinx-gallery logs it, at the level VERBOSE."""
    handler = logging.StreamHandler(sys.stdout)
    handler.addFilter(lambda record: record.levelno == VERBOSE)
    logging.getLogger("sphinx.sphinx-gallery").addHandler(handler)


def setup(app):
    """Connect the hooks, and draw the pictures."""
    show_output()
    app.connect("autodoc-skip-member", skip_foreign)
    app.connect("include-read", relink)
    app.connect("source-read", gallery.first_sentences)
    app.connect("env-updated", shorten_labels)
    landing.draw(Path(app.srcdir, "generated"))
