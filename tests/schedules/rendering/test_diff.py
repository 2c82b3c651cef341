from hypothesis import given
from hypothesis import strategies as st

from schedules.rendering import diff

PATCH = """\
From 4f2a Mon Sep 17 00:00:00 2001
Subject: [PATCH] Round half up

diff --git a/cart/total.py b/cart/total.py
index 1111111..2222222 100644
--- a/cart/total.py
+++ b/cart/total.py
@@ -1,4 +1,4 @@ def total
 def total(lines):
-    return sum(lines)
+    return round(sum(lines), 2)

--- not a header
+++ nor this
@@ -40 +40,2 @@
 end
+of file
\\ No newline at end of file
diff --git a/docs/new name.md b/docs/new name.md
new file mode 100644
index 0000000..3333333
--- /dev/null
+++ b/docs/new name.md
@@ -0,0 +1 @@
+hello
diff --git a/old.txt b/older.txt
similarity index 100%
rename from old.txt
rename to older.txt
diff --git a/gone.txt b/gone.txt
deleted file mode 100644
--- a/gone.txt
+++ /dev/null
@@ -1 +0,0 @@
-bye
diff --git a/logo.png b/logo.png
Binary files a/logo.png and b/logo.png differ
"""


def test_a_patch_is_read_into_files() -> None:
    read = diff.parse(PATCH)

    assert [(file.path, file.was, file.change, file.insertions, file.deletions) for file in read.files] == [
        ("cart/total.py", "", "changed", 3, 2),
        ("docs/new name.md", "", "added", 1, 0),
        ("older.txt", "old.txt", "renamed", 0, 0),
        ("gone.txt", "", "deleted", 0, 1),
        ("logo.png", "", "binary", 0, 0),
    ]
    assert "Round half up" in read.preamble
    assert read.hidden == 0


def test_lines_have_their_numbers_before_and_after() -> None:
    lines = diff.parse(PATCH).files[0].lines

    assert [(line.kind, line.old, line.new) for line in lines] == [
        ("hunk", None, None),
        ("context", 1, 1),
        ("removed", 2, None),
        ("added", None, 2),
        ("context", 3, 3),
        ("removed", 4, None),
        ("added", None, 4),
        ("hunk", None, None),
        ("context", 40, 40),
        ("added", None, 41),
        ("note", None, None),
    ]


def test_a_removed_line_that_looks_like_a_header_is_a_removed_line() -> None:
    lines = diff.parse(PATCH).files[0].lines

    assert [line.text for line in lines if line.kind in ("removed", "added")][2:4] == ["-- not a header", "++ nor this"]


def test_a_long_patch_and_a_long_line_are_cut() -> None:
    body = "".join(f"+{'x' * 2000}\n" for _ in range(diff.MOST_LINES * 2))
    read = diff.parse(f"diff --git a/a b/a\n@@ -0,0 +1,{diff.MOST_LINES * 2} @@\n{body}")

    assert read.hidden == diff.MOST_LINES + 2
    assert max(len(line.text) for line in read.files[0].lines) == diff.LONGEST_LINE


def test_a_patch_that_was_cut_in_a_hunk_says_so_in_its_own_words() -> None:
    lines = diff.parse("diff --git a/a b/a\n@@ -1,9 +1,9 @@\n one\n… cut: 9 of 99 bytes are shown\n").files[0].lines

    assert lines[-1] == diff.Line("note", "… cut: 9 of 99 bytes are shown")


def test_nothing_is_no_patch() -> None:
    assert diff.parse("") == diff.Diff(files=[], preamble="", hidden=0)


@given(st.text(alphabet="+-@ ,\n0123456789abdifg/\\", max_size=400))
def test_no_text_is_too_strange(text: str) -> None:
    diff.parse(text)
    diff.parse("diff --git a/x b/y\n@@ -1,3 +1,3 @@\n" + text)
