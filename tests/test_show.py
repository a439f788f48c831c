"""What `show` and `list` say where something is damaged, or long."""

from pathlib import Path

import pytest
from real_runs import call, here, recipe, run_dir

from nextlat_bench.show import first_sentence, other_entries

STEPS = "training.steps=2"


def test_where_a_run_was_made_is_not_all_that_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Damaged provenance hides nothing else, and nobody is told to delete a trained model."""
    assert call(recipe("path_star", tmp_path, STEPS, objective="gpt")) == 0
    folder = run_dir(tmp_path, "gpt")
    capsys.readouterr()
    assert call(["show", str(folder)]) == 0
    whole = capsys.readouterr().out
    (folder / "provenance.json").write_text("{")
    assert call(["show", str(folder)]) == 0
    shown = capsys.readouterr().out
    assert "not known: provenance.json is damaged" in shown
    rows = [line for line in whole.splitlines() if "made" not in line and "commit" not in line]
    assert set(rows) <= set(shown.splitlines())


def test_every_subject_has_a_whole_sentence() -> None:
    for name, line in other_entries("subjects"):
        assert line, name
        assert "\n" not in line
        assert line.count("(") == line.count(")"), line
        assert line.split()[-1] not in {"the", "a", "of", "and", "to", "its", "that", "is"}, line


def test_a_sentence_ends_at_its_full_stop() -> None:
    assert (
        first_sentence("One that goes\n    on, e.g.this. Another.") == "One that goes on, e.g.this"
    )
    assert first_sentence("") == ""


def test_list() -> None:
    done = here("list")
    for word in ("taxi", "nextlat", "compression", "oracle", "heliopolis", "4,1"):
        assert word in done.stdout


def test_brackets_are_no_markup(tmp_path: Path) -> None:
    out = tmp_path / "a b [x] [/y] :ring:"
    steps = ["--set", "training.steps=2", "--set", "training.examples=4"]
    done = here("run", "path_star", "--scale", "smoke", *steps, "--out", str(out))
    assert done.returncode == 0, done.stderr
    assert str(out) in "".join(done.stdout.split("\n"))
    [folder] = out.glob("path_star-nextlat-*")
    assert here("show", str(folder)).returncode == 0
