"""How Sphinx builds the site: offline, the same from the same sources; `make_site.py` calls it."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml

import alliance_meta

project = "alliance_meta"
version = release = alliance_meta.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.autosummary", "sphinx.ext.napoleon"]
exclude_patterns = ["files"]
default_role = "py:obj"
highlight_language = "none"
# `k` and `yi` are attributes of many classes; a word in back-ticks that could mean several is left without a link.
suppress_warnings = ["ref.python"]

myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 4
myst_update_mathjax = False

autosummary_generate = False
toc_object_entries = False
autodoc_typehints = "none"
autodoc_member_order = "bysource"
napoleon_google_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False

html_theme = "furo"
html_title = "alliance_meta"
html_copy_source = False
html_show_copyright = False
html_math_renderer = "mathml"


# Sizes that docutils does not know; browsers stretch brackets by themselves.
SIZES = re.compile(r"\\(textstyle|[bB]ig)(?![a-z])")


def mathml(block: bool) -> Callable[[Any, Any], None]:
    """Return the writer of formulas as MathML, which browsers draw without a script or a font of somebody's server."""

    def write(writer: Any, node: Any) -> None:
        writer.body.append(tex2mathml(SIZES.sub("", node.astext()), as_block=block))
        raise nodes.SkipNode

    return write


def as_restructured(app: Any, what: str, name: str, value: Any, options: Any, lines: list[str]) -> None:
    """Let |r| in a docstring be an absolute value and `Note`s a plural, which reStructuredText takes for marks."""
    for i, line in enumerate(lines):
        plural = re.sub(r"(`\w+`)s\b", r"\1\\ s", line)
        lines[i] = re.sub(r"(?<![`\w])\|(\w+)\|", r"\|\1\|", plural)


def setup(app: Any) -> None:
    """Tell Sphinx how formulas are written."""
    app.connect("autodoc-process-docstring", as_restructured)
    app.add_html_math_renderer("mathml", (mathml(False), None), (mathml(True), None))
