from html.parser import HTMLParser

import pytest

from schedules.rendering.markdown import LONGEST, to_html


def elements(html: str) -> list[tuple[str, dict[str, str]]]:
    """What a browser would make of it: each element with its attributes."""
    found: list[tuple[str, dict[str, str]]] = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            found.append((tag, {name: value or "" for name, value in attrs}))

    Reader().feed(html)
    return found


def test_markdown_is_rendered() -> None:
    html = to_html("# Title\n\n**bold** `code`\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n1. one\n")

    for part in ("<h1>Title</h1>", "<strong>bold</strong>", "<code>code</code>", "<td>1</td>", "<li>one</li>"):
        assert part in html


@pytest.mark.parametrize(
    "hostile",
    [
        "<script>alert(1)</script>",
        "<img src=x onerror=alert(1)>",
        "[click](javascript:alert(1))",
        "[click](JaVaScRiPt:alert(1))",
        "[click](data:text/html;base64,PHNjcmlwdD4=)",
        "[click](vbscript:msgbox)",
        "<a href='javascript:alert(1)'>x</a>",
        "<iframe src='https://evil.example'></iframe>",
        "<style>body{display:none}</style>",
        "![x](javascript:alert(1))",
        '![x"onerror="alert(1)](https://evil.example/p.png)',
        "[x](https://evil.example 'onmouseover=alert(1)')",
        "```html\n<script>alert(1)</script>\n```",
        "<svg/onload=alert(1)>",
    ],
)
def test_markdown_can_do_no_harm(hostile: str) -> None:
    for tag, attributes in elements(to_html(hostile)):
        assert tag in {"p", "a", "pre", "code"}
        assert set(attributes) <= {"href", "title", "rel", "class"}
        assert attributes.get("href", "https:").startswith("https:")


def test_a_picture_becomes_a_link_for_nothing_is_fetched_by_reading() -> None:
    html = to_html("![a chart](https://example.org/chart.png)")

    assert '<a href="https://example.org/chart.png"' in html
    assert "<img" not in html


def test_links_tell_nobody_where_they_were_clicked() -> None:
    assert 'rel="noopener noreferrer nofollow"' in to_html("[x](https://example.org)")


def test_a_very_long_text_is_cut_and_says_so() -> None:
    assert "Cut after" in to_html("word " * LONGEST)
    assert "Cut after" not in to_html("word")
