import re
from pathlib import Path

import pytest

from runners.base import OptionsInvalid
from runners.plugins import MANIFEST, found, problem


def make_plugin(folder: Path) -> Path:
    (folder / MANIFEST).parent.mkdir(parents=True)
    (folder / MANIFEST).write_text('{"name": "tinker"}')
    return folder


@pytest.mark.parametrize(
    ("plugins", "trusted"),
    [([], False), (["tools/reviewer"], True), (["/opt/plugins/reviewer"], False), (["/opt/plugins"], False)],
)
def test_plugins_that_are_well(plugins: list[str], trusted: bool) -> None:
    assert problem(plugins, folders=["/opt/plugins"], trusted=trusted) == ""


@pytest.mark.parametrize(
    ("plugins", "trusted", "words"),
    [
        ("tools", True, "Give a list"),
        ([3], True, "no folder of a plugin"),
        ([""], True, "no folder of a plugin"),
        (["../other"], True, "no folder of a plugin"),
        (["/opt/plugins/../../etc"], True, "no folder of a plugin"),
        (["a\nb"], True, "no folder of a plugin"),
        (["tools/reviewer"], False, "trust it first"),
        (["/opt/pluginsX"], True, "in no allowed folder. ROTA_PLUGIN_FOLDERS has: /opt/plugins"),
        (["/etc"], True, "in no allowed folder"),
    ],
)
def test_plugins_that_will_not_do(plugins: object, trusted: bool, words: str) -> None:
    assert re.search(words, problem(plugins, folders=["/opt/plugins"], trusted=trusted))


def test_their_folders(tmp_path: Path) -> None:
    ours = make_plugin(tmp_path / "workspace" / "tools" / "ours")
    theirs = make_plugin(tmp_path / "plugins" / "theirs")
    named = ["tools/ours", str(theirs)]

    assert found(named, workspace=tmp_path / "workspace", folders=[str(tmp_path / "plugins")]) == [ours, theirs]


def test_a_link_leads_nowhere(tmp_path: Path) -> None:
    elsewhere = make_plugin(tmp_path / "elsewhere")
    for folder in (tmp_path / "workspace", tmp_path / "plugins"):
        folder.mkdir()
        (folder / "link").symlink_to(elsewhere)
    for named in ("link", f"{tmp_path}/plugins/link"):
        with pytest.raises(OptionsInvalid, match="where no plugin may be"):
            found([named], workspace=tmp_path / "workspace", folders=[str(tmp_path / "plugins")])


def test_a_folder_that_is_no_plugin_is_refused_for_the_program_would_pass_over_it(tmp_path: Path) -> None:
    (tmp_path / "tools").mkdir()
    for named in ("tools", "gone"):
        with pytest.raises(OptionsInvalid, match="is no plugin"):
            found([named], workspace=tmp_path, folders=[])
