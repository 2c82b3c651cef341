"""Markdown that an agent wrote, as HTML that can do no harm."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import nh3
from django.utils.html import format_html
from django.utils.safestring import SafeString
from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token

from schedules.rendering.visible import visible

LONGEST = 50_000
"""Characters that are rendered, for a text can be made to take a second for as many; what is longer is cut."""

_TAGS = {"a", "code", "del", "em", "s", "strong", "br", "hr", "p", "pre", "blockquote", "ol", "ul", "li"}
_TAGS |= {"h1", "h2", "h3", "h4", "h5", "h6", "table", "thead", "tbody", "tr", "th", "td"}
_ATTRIBUTES = {"a": {"href", "title"}, "ol": {"start"}, "code": {"class"}}
_SCHEMES = {"http", "https", "mailto"}


def _image(renderer: RendererHTML, tokens: Sequence[Token], index: int, options: Any, env: Any) -> str:
    """A link: nothing is fetched from elsewhere because somebody reads a page."""
    token = tokens[index]
    link = format_html('<a href="{}">{}</a>', token.attrs.get("src", ""), token.content or "image")
    return str(link)


_markdown = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"])
_markdown.add_render_rule("image", _image)


def to_html(text: str) -> SafeString:
    """The text rendered and cleaned against an allow-list: no scripts, styles, images or foreign schemes."""
    cut = len(text) > LONGEST
    rendered = _markdown.render(visible(text[:LONGEST]))
    clean = nh3.clean(
        rendered,
        tags=_TAGS,
        attributes=_ATTRIBUTES,
        url_schemes=_SCHEMES,
        link_rel="noopener noreferrer nofollow",
    )
    note = format_html('<p class="rota-note">Cut after {} characters.</p>', LONGEST) if cut else ""
    # nh3's output is HTML by an allow-list: this is the one place that trusts it to be.
    return format_html("{}{}", SafeString(clean), note)
