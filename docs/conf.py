"""How Sphinx builds the site: `python -m sphinx -W --keep-going docs build/site`, see CONTRIBUTING.md."""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "extensions"))

import fastnn  # noqa: E402  (after the folder of the extensions, as they import it)

project = "fastnn"
author = "The fastnn developers"
copyright = author
version = release = fastnn.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "numpydoc",
    "myst_parser",
    "sphinx_design",
    "sphinx_copybutton",
    # in docs/extensions
    "repository_links",
    "reference",
    "gallery",
    "code_links",
]
nitpicky = True
smartquotes = False  # "cpu" is code
exclude_patterns = []
highlight_language = "python"

# -- Markdown --------------------------------------------------------------------------------------------------
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3

# -- the reference: reference.toml says what is on which page --------------------------------------------------
autosummary_generate = False
autodoc_typehints = "none"  # docstrings have the types, in words
autodoc_preserve_defaults = True
autodoc_class_signature = "mixed"
numpydoc_show_class_members = False
python_maximum_signature_line_length = 88
python_trailing_comma_in_multi_line_signatures = False
add_module_names = True
toc_object_entries_show_parents = "hide"
default_role = "code"

# -- the gallery: "quick" runs the examples as their tests do; "full" takes half an hour -------------------------------
gallery_size = "quick"

# -- pages -----------------------------------------------------------------------------------------------------
html_theme = "pydata_sphinx_theme"
html_title = "fastnn"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sourcelink = False
html_theme_options = {
    "logo": {"text": "fastnn"},
    "show_nav_level": 1,
    "navigation_depth": 3,
    "collapse_navigation": True,
    "show_toc_level": 2,
    "header_links_before_dropdown": 6,
    "navbar_end": ["theme-switcher"],
    "secondary_sidebar_items": {"**": ["page-toc"], "index": [], "gallery/index": []},
    "footer_start": ["copyright"],
    "footer_end": [],
    "back_to_top_button": False,
}
html_sidebars = {"index": [], "changelog": []}
copybutton_exclude = ".linenos, .gp, .go"
