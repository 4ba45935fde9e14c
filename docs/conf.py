"""How Sphinx builds the site: ``tox run -e docs``. Warnings are errors there, a link that leads nowhere included.

The pages read well on GitHub, too, so they link to each other, and to files outside of ``docs``, by relative paths.
What those mean on the site is for `_LinkRewriter` to say.
"""

from __future__ import annotations

import importlib
import importlib.util
import posixpath
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tornado_wsauth

if TYPE_CHECKING:
    from docutils import nodes  # type: ignore[import-untyped, unused-ignore]
    from sphinx.addnodes import pending_xref
    from sphinx.application import Sphinx
    from sphinx.environment import BuildEnvironment

ROOT = Path(__file__).parent.parent

sys.path.insert(0, str(ROOT / "docs"))

project = "tornado_wsauth"
author = "the authors of tornado_wsauth"
copyright = author  # noqa: A001 - Sphinx's name for it
version = release = tornado_wsauth.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx_copybutton"]
exclude_patterns = ["_build"]
if importlib.util.find_spec("tornado_wsauth.metrics") is None:
    exclude_patterns.append("api/operations.md")

html_theme = "furo"
html_title = f"tornado_wsauth {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_theme_options: dict[str, Any] = {
    "light_css_variables": {"color-brand-primary": "#9a3412", "color-brand-content": "#9a3412"},
    "dark_css_variables": {"color-brand-primary": "#fdba74", "color-brand-content": "#fdba74"},
}
pygments_style = "friendly"
pygments_dark_style = "monokai"
copybutton_exclude = ".linenos, .gp, .go"

myst_heading_anchors = 4  # as GitHub makes them
myst_links_external_new_tab = False

autodoc_member_order = "bysource"
autodoc_default_options = {"members": True}
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
maximum_signature_line_length = 68  # one argument a line beyond; a phone shows no longer one

default_role = "any-name"
nitpick_ignore_regex = [
    # Other projects' names: their documentation is elsewhere, and a build must not need the network.
    (r"py:.*", r"(tornado|redis|pymongo|motor|jwt|pytest|prometheus_client)\..*"),
    (r"py:.*", r"(collections|asyncio|typing|datetime|ssl|unittest|enum|types|contextlib|abc|logging|concurrent)\..*"),
    (r"py:.*", r"(AsyncCollection|AsyncMongoClient|AsyncDatabase|Database|Redis|PyJWK|Algorithm)(\[.*)?"),
]

PAGES_OF_FILES = {
    "README.md": "project/readme.md",
    "CONTRIBUTING.md": "project/contributing.md",
    "CHANGELOG.md": "project/changelog.md",
    "benchmarks/README.md": "project/benchmarks.md",
}
"""Files of the repository that are pages of the site, and where."""

PUBLIC_MODULES = ("tornado_wsauth", "tornado_wsauth.client", "tornado_wsauth.testing", "tornado_wsauth.metrics")

LINK = re.compile(r"(?<=\]\()(?![a-z]+:|#|<)([^)#\s]+)(#[^)\s]*)?(?=\))")


class _LinkRewriter:
    """Makes the relative links of one file of the repository those of one page of the site."""

    def __init__(self, file: str, page: str) -> None:
        self._folder = posixpath.dirname(file)
        self._page_folder = posixpath.dirname(f"docs/{page}")

    def rewrite(self, text: str) -> str:
        """Return ``text`` with its links rewritten; those in code stay as they are."""
        parts = re.split(r"(^ *```.*?^ *```)", text, flags=re.MULTILINE | re.DOTALL)
        parts[::2] = [LINK.sub(self._target, part) for part in parts[::2]]
        return "".join(parts)

    def _target(self, link: re.Match[str]) -> str:
        named, anchor = link[1], link[2] or ""
        target = posixpath.normpath(posixpath.join(self._folder, named))
        if target in PAGES_OF_FILES:
            target = f"docs/{PAGES_OF_FILES[target]}"
        scheme = "" if target.startswith("docs/") else "path:"  # a file to download
        return scheme + posixpath.relpath(target, self._page_folder) + anchor


def _read_source(app: Sphinx, docname: str, source: list[str]) -> None:
    """Put the repository's own files where their pages are, and make every page's links those of the site."""
    page = f"{docname}.md"
    files = {of_site: file for file, of_site in PAGES_OF_FILES.items()}
    if page in files:
        source[0] = (ROOT / files[page]).read_text(encoding="utf-8")
        app.env.note_dependency(str(ROOT / files[page]))
    source[0] = _LinkRewriter(files.get(page, f"docs/{page}"), page).rewrite(source[0])


def _public_name(name: str) -> str | None:
    """Return where a class or function is documented that a docstring or an annotation names."""
    first, *attributes = name.removeprefix("tornado_wsauth.").split(".")
    for module in PUBLIC_MODULES:
        if importlib.util.find_spec(module) is None:
            continue
        names = importlib.import_module(module).__all__
        for position, part in enumerate([first, *attributes]):
            if part in names:
                return ".".join([module, part, *[first, *attributes][position + 1 :]])
    return None


def _resolve(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, content: nodes.TextElement
) -> nodes.reference | nodes.TextElement | None:
    """Resolve a name that Sphinx did not find. Names that are public and not in the reference stay warnings."""
    if node.get("refdomain") != "py":
        return None
    target = node["reftarget"]
    public = _public_name(target)
    domain = env.domains.python_domain
    for name in filter(None, [public, target]):
        found = domain.find_obj(env, node.get("py:module"), node.get("py:class"), name, None, 1)
        if len(found) == 1:
            full, entry = found[0]
            return _reference(app, node, content, entry.docname, entry.node_id, full)
    is_public_itself = public is not None and public.rpartition(".")[0] in PUBLIC_MODULES
    return None if is_public_itself else content


def _reference(
    app: Sphinx, node: pending_xref, content: nodes.TextElement, docname: str, node_id: str, title: str
) -> nodes.reference:
    from sphinx.util.nodes import make_refnode

    return make_refnode(app.builder, node["refdoc"], docname, node_id, [content], title)


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    from plots import draw_all
    from pygments.lexers.special import TextLexer  # type: ignore[import-untyped, unused-ignore]
    from sphinx.domains.python import PyXRefRole

    draw_all(ROOT / "docs" / "performance.json", ROOT / "docs" / "_plots")
    for language in ("redis", "promql", "haproxy", "caddy"):  # Pygments knows none of them
        app.add_lexer(language, TextLexer)
    app.add_role("any-name", _named_role(PyXRefRole()))
    app.connect("source-read", _read_source)
    app.connect("missing-reference", _resolve)


def _named_role(role: Any) -> Any:
    """Return the role of `single backticks`: a name of the library's if it is one, else code."""

    def run(name: str, rawtext: str, text: str, *rest: Any) -> Any:
        return role("py:obj", f":py:obj:`{text}`", text, *rest)

    return run
