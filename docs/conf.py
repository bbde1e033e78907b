"""How Sphinx builds these pages: `make docs`."""

import importlib.metadata
import re

project = "headcount"
author = "The headcount authors"
project_copyright = "The headcount authors"
release = importlib.metadata.version("headcount")

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
]
exclude_patterns = ["_build"]

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False

html_theme = "furo"
html_title = f"headcount {release}"
html_copy_source = False
html_show_sphinx = False

LABEL = re.compile(r"(?:Source|Differs|Shapes): ")


def label_paragraphs(_app, _what, _name, _obj, _options, lines: list[str]) -> None:
    """Make each ``Source: ...`` and ``Differs: ...`` with its indented lines one paragraph."""
    result, labelled = [], False
    for line in lines:
        if match := LABEL.match(line):
            label = match.group().rstrip(": ")
            result += ["", f"**{label}:** {line[match.end() :]}"]
            labelled = True
        elif labelled and line.startswith(" "):
            result.append(line.strip())
        else:
            result += ["", line] if labelled and line else [line]
            labelled = False
    lines[:] = result


def keep_colons(_app, what: str, _name, _obj, _options, lines: list[str]) -> None:
    """Keep napoleon from taking what stands before a colon for the type of an attribute.

    It looks at the first line only, so an empty comment goes there.
    """
    if what in ("attribute", "data", "property"):
        lines[:0] = ["..", ""]


def setup(app) -> None:
    """Run before napoleon, whose listeners have the priority 500."""
    app.connect("autodoc-process-docstring", label_paragraphs, priority=400)
    app.connect("autodoc-process-docstring", keep_colons, priority=400)
