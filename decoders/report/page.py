"""One HTML file: sections in, text out, with a content policy that lets only our own style and script run."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from decoders.report.blocks import Section

_FOLDER = Path(__file__).resolve().parent
MOST_BYTES = 25 * 2**20


def policy(style: str, script: str) -> str:
    """Return the content policy: no request at all, and one style and one script by their hashes."""
    return "; ".join(
        (
            "default-src 'none'",
            f"style-src '{_hash(style)}'",
            f"script-src '{_hash(script)}'",
            "img-src data: blob:",
            "base-uri 'none'",
            "form-action 'none'",
            "require-trusted-types-for 'script'",
        )
    )


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")


@cache
def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(_FOLDER / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _asset(name: str) -> str:
    return "\n" + (_FOLDER / name).read_text(encoding="utf-8")


def render_page(
    study: str,
    title: str,
    summary: Sequence[str],
    facts: Sequence[tuple[str, str]],
    sections: Sequence[Section],
    sources: Sequence[str] = (),
) -> str:
    """Return the page; equal input gives equal text.

    Parameters
    ----------
    study, title : str
    summary : sequence of str
        Paragraphs under the title.
    facts : sequence of (str, str)
        Names and values of the strip under them.
    sections : sequence of Section
        Empty ones are left out.
    sources : sequence of str
        Attribution of the data, at the foot of the page.
    """
    style, script = _asset("style.css"), _asset("script.js")
    return (
        _environment()
        .get_template("page.html")
        .render(
            study=study,
            title=title,
            summary=summary,
            facts=facts,
            sections=[section for section in sections if not section.empty],
            style=Markup(style),
            script=Markup(script),
            policy=policy(style, script),
            version=corticode_version(),
            sources=sources,
        )
        .lstrip()
    )


def corticode_version() -> str:
    """Return the installed version."""
    try:
        return version("corticode")
    except PackageNotFoundError:
        return "unknown"
