"""The guides of docs/ are followed word by word: files written, commands run, outputs compared.

A file's block stands under its name, **`like_this.py`**. A console block holds commands and, under
each, its output; "..." stands for anything, and blanks may differ.
"""

import doctest
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"
GUIDES = ("add-a-task", "add-an-objective", "add-a-probe", "share-a-plugin")
STEP = re.compile(
    r"^\*\*`(?P<file>[^`]+)`\*\*\n\n```\w+\n(?P<text>.*?)^```$|^```console\n(?P<console>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
SCRIPT = "#!{}\nimport sys\nfrom {} import {}\nsys.exit({}())\n"
SAME = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def steps(guide: str) -> Iterator[re.Match[str]]:
    return STEP.finditer((DOCS / f"{guide}.md").read_text(encoding="utf-8"))


def write_files(guide: str, folder: Path) -> None:
    for step in steps(guide):
        if step["file"]:
            (folder / step["file"]).write_text(step["text"], encoding="utf-8")


def commands(console: str) -> list[tuple[str, str]]:
    """Each command and the output that is shown under it."""
    parts = re.split(r"^\$ (.*)\n", console, flags=re.MULTILINE)
    assert not parts[0], f"output without a command: {parts[0]}"
    return list(zip(parts[1::2], parts[2::2], strict=True))


class Reader:
    """Somebody at a shell, in a folder of their own, who has installed the suite."""

    def __init__(self, home: Path, folder: Path) -> None:
        self.folder, self.shell, self.site = folder, home / "exported", home / "site"
        programs = home / "bin"
        programs.mkdir(parents=True)
        scripts = {  # as pip writes them
            "nextlat-bench": ("nextlat_bench.cli", "main"),
            "pytest": ("pytest", "console_main"),
            "pip": ("pip._internal.cli.main", "main"),
        }
        for program, (module, main) in scripts.items():
            path = programs / program
            path.write_text(SCRIPT.format(sys.executable, module, main, main))
            path.chmod(0o755)
        # pip installs into a folder of the test's own, and asks no index for what is there
        pip = {"PIP_TARGET": self.site, "PIP_NO_DEPS": 1, "PIP_NO_INDEX": 1}
        pip |= {"PIP_NO_BUILD_ISOLATION": 0, "PIP_DISABLE_PIP_VERSION_CHECK": 1}
        own = {"HOME": home, "TERM": "dumb", "COLUMNS": 100, "NO_COLOR": 1, "PYTHONPATH": self.site}
        own |= {"PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"}
        self.environment = os.environ | {key: str(value) for key, value in (pip | own).items()}

    def types(self, command: str) -> str:
        """Standard output. What is exported stays so."""
        exported = shlex.quote(str(self.shell))
        wrapped = f"[ -f {exported} ] && . {exported}; {command} && export -p > {exported}"
        done = subprocess.run(
            ["bash", "-c", wrapped],
            capture_output=True,
            text=True,
            cwd=self.folder,
            env=self.environment,
            timeout=120,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        return done.stdout


@pytest.mark.parametrize("guide", GUIDES)
def test_following_it_works(guide: str, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    reader = Reader(tmp_path / "home", folder)
    if guide == GUIDES[-1]:  # it begins with the files of the others
        for other in GUIDES[:-1]:
            write_files(other, folder)
    for step in steps(guide):
        if step["file"]:
            (folder / step["file"]).write_text(step["text"], encoding="utf-8")
            continue
        for command, shown in commands(step["console"]):
            output = reader.types(command)
            if shown and not doctest.OutputChecker().check_output(shown, output, SAME):
                pytest.fail(f"$ {command}\n--- {guide}.md shows\n{shown}--- it says\n{output}")


@pytest.mark.parametrize("guide", GUIDES)
def test_nothing_is_left_out(guide: str) -> None:
    """Each block of the guide is a step that the test takes."""
    text = (DOCS / f"{guide}.md").read_text(encoding="utf-8")
    assert text.count("\n```") == 2 * len(list(steps(guide)))


def test_the_files_are_as_tidy_as_ours(tmp_path: Path) -> None:
    for guide in GUIDES:
        write_files(guide, tmp_path)
    config = ["--config", str(DOCS.parent / "pyproject.toml"), "--no-cache", "."]
    for check in ["check"], ["format", "--check"]:
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *check, *config],
            capture_output=True,
            text=True,
            cwd=tmp_path,
        )
        assert done.returncode == 0, done.stdout + done.stderr
