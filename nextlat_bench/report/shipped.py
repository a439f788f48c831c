"""What ships with the suite beside the records of trained models: what `python -m benchmarks` and
`python scripts/validity.py` left, and the records of the validation split."""

from importlib import resources

from nextlat_bench.files import parse_json
from nextlat_bench.report.facts import Facts
from nextlat_bench.report.records import Record, collect, read, shipped_files

__all__ = ["committed_benchmarks", "committed_choices", "committed_known"]

PREFIX, SUFFIX = "benchmark-", ".json"


def committed_benchmarks() -> dict[str, Facts]:
    """The committed facts by the benchmark's name."""
    return {
        file.name.removeprefix(PREFIX).removesuffix(SUFFIX): parse_json(file.read_bytes())
        for file in shipped_files("rendered")
        if file.name.startswith(PREFIX) and file.name.endswith(SUFFIX)
    }


def committed_known() -> list[Record]:
    """The committed records of subjects whose answer is known."""
    with resources.as_file(resources.files("nextlat_bench.results") / "known.jsonl") as path:
        return read(path) if path.exists() else []


def committed_choices() -> list[Record]:
    """The committed records of the validation split, which presets were chosen by."""
    with resources.as_file(resources.files("nextlat_bench.results") / "choices") as folder:
        return collect(folder) if folder.exists() else []
