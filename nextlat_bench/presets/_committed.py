"""The runs that the committed records are of, made again from what these say."""

from pathlib import PurePath

from nextlat_bench.report.records import Record, committed
from nextlat_bench.run import SCHEMA, Run

__all__ = ["committed_runs"]


def committed_runs(task: str, streets: str | None = None) -> list[Run]:
    """All that the committed records of a task are of.

    `streets`: where a map lies that does not ship; the records have its name and its digest.
    """
    found = {r.run: r for r in committed() if r.task == task and r.step}
    if not found:
        raise ValueError(f"no committed record is of a model trained on {task}")
    return [_run_of(record, streets) for record in found.values()]


def _run_of(record: Record, streets: str | None) -> Run:
    parameters = dict(record.task_parameters)
    source = PurePath(parameters.get("streets", {}).get("source", ""))
    if source.suffix:  # a file; what ships is named without one
        parameters["streets"] = parameters["streets"] | {"source": streets or source.name}
    row = {
        "schema": SCHEMA,
        "task": {"name": record.task, "parameters": parameters},
        "objective": {"name": record.objective, "parameters": record.objective_parameters},
        "decoder": record.decoder,
        "training": record.training,
        "seed": record.seed,
        "scale": record.scale,
    }
    try:
        return Run.from_json(row)
    except ValueError as error:
        hint = "; --streets says where it lies" if "no such file" in str(error) else ""
        raise ValueError(f"{record.run}, of the committed records: {error}{hint}") from None
