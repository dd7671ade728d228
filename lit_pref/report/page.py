"""A report as one page. Knows the template and how it is filled; nothing of numbers."""

from jinja2 import Environment
from markupsafe import Markup

from .. import __version__
from .document import TITLE, Document
from .page_template import PAGE, STYLE
from .texts import plain


def html(document: Document) -> str:
    """The page; values pass through ``plain`` and are escaped, figures alone are markup."""
    made = Environment(autoescape=True, keep_trailing_newline=True)
    made.globals["plain"] = plain
    return made.from_string(PAGE).render(
        document=document, title=TITLE, style=Markup(STYLE), version=__version__
    )  # fmt: skip
