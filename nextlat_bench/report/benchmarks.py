"""Facts of speed that ship with the suite: what `python -m benchmarks` left of each benchmark."""

from importlib import resources

from nextlat_bench.files import parse_json
from nextlat_bench.report.records import Facts

__all__ = ["committed_benchmarks"]

PREFIX, SUFFIX = "benchmark-", ".json"


def committed_benchmarks() -> dict[str, Facts]:
    """The committed facts by the benchmark's name."""
    folder = resources.files("nextlat_bench.results") / "rendered"
    files = sorted(folder.iterdir(), key=lambda file: file.name) if folder.is_dir() else []
    return {
        file.name.removeprefix(PREFIX).removesuffix(SUFFIX): parse_json(file.read_bytes())
        for file in files
        if file.name.startswith(PREFIX) and file.name.endswith(SUFFIX)
    }
