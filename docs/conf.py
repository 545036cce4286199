"""How Sphinx builds the site: ``python -m sphinx -W docs build/site``."""

from __future__ import annotations

import builtins
import sys
from typing import Any

from docutils import nodes

from sockproto import __version__

project = "sockproto"
author = "the sockproto authors"
version = release = __version__

extensions = ["sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["news", "examples"]
html_theme = "furo"
html_title = "sockproto"
html_copy_source = False

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True


def _elsewhere(
    app: Any, env: Any, node: nodes.Element, shown: nodes.Element
) -> nodes.reference | None:
    """
    Link a name of Twisted's or of Python's to where its project documents it.

    Not intersphinx: it fetches an inventory of each project when the site is built, and a build
    has to work without a network.
    """
    name = node.get("reftarget", "")
    module = name.partition(".")[0]
    if module == "twisted":
        page = f"https://docs.twisted.org/en/stable/api/{name}.html"
    elif "." in name and module in sys.stdlib_module_names:
        page = f"https://docs.python.org/3/library/{name.rpartition('.')[0]}.html#{name}"
    elif isinstance(getattr(builtins, name, None), type):
        error = issubclass(getattr(builtins, name), BaseException)
        page = f"https://docs.python.org/3/library/{'exceptions' if error else 'stdtypes'}.html"
        page += f"#{name}"
    else:
        return None
    return nodes.reference("", "", shown, internal=False, refuri=page)


def setup(app: Any) -> None:
    """Called by Sphinx."""
    app.connect("missing-reference", _elsewhere)
