"""The numbers in a table's notes: differences by seed, trials and what was left out, by hand."""

from dataclasses import replace

from report_records import COUNTDOWN, accuracy, of, record, seeds

from nextlat_bench.report.columns import PLAIN
from nextlat_bench.report.records import Record
from nextlat_bench.report.tables import table

WHERE = "decode=greedy,kind=heldout"


def note(name: str, records: list[Record], part: str) -> str:
    """The one note that holds this."""
    [found] = [text for text in table(name, records).notes if part in text]
    return found


def test_differences_are_of_one_seed_each_and_their_mean_of_all() -> None:
    """GPT lacks seed 0: gaps of 7 and 2 points, 4.5 on average."""
    gpt = [r for r in accuracy("countdown", COUNTDOWN, WHERE, 0.9, 0.2, 0.1, **of("gpt")) if r.seed]
    ours = accuracy("countdown", COUNTDOWN, WHERE, 0.3, 0.27, 0.12, **of("nextlat", 1))
    said = note("countdown", [*gpt, *ours], "seed by seed")
    assert said.endswith(": NextLat (d=1) 4.5 (7.0, 2.0).")


def test_trials_are_those_of_values_from_the_fewest_to_the_most() -> None:
    runs = [record(run=f"r{i}", seed=i, n=n) for i, n in enumerate((200, 100, 300))]
    nothing = record(run="none", seed=3, n=7, value=None, low=None, high=None)
    said = note("taxi", [*runs, nothing], "probe trajectories")
    assert said == "probe trajectories: 100 to 300 trials a seed, num_trials=1000."


def test_what_was_left_out_is_counted_over_all_seeds() -> None:
    some = seeds(0.9, 0.8, 0.7, n_skipped=5, skipped_because="too far")
    assert (
        note("taxi", some, "skipped in all")
        == "Valid, legal %: 15 trials skipped in all (too far)."
    )


def test_the_probe_parameters_with_values_are_shown() -> None:
    """Two seeds of few trials, of many one alone and two that came to nothing."""
    few, many = ({"probe_parameters": {"num_trials": n}, "n": n} for n in (100, 1000))
    records = [*seeds(0.5, 0.5, **few), *seeds(0.9, None, None, **many)]
    [row] = [row for row in table("taxi", records).rows if row.label == "NextLat (d=1)"][:1]
    assert [cell.value for cell in row.cells if cell.value is not None] == [50.0]


def test_what_was_not_trained_took_no_steps() -> None:
    true = seeds(1.0, **of("oracle"))
    said = note("taxi", [*seeds(0.9), *seeds(0.8, step=500), *true], "trained for")
    assert "trained for 500 to 2,000 steps" in said


def test_cells_of_fewer_seeds_than_their_row_are_named() -> None:
    """Legal of three seeds, reached of two of them; of MTP both of two."""
    theirs = [r for metric in ("legal", "reached") for r in seeds(0.9, 0.8, metric=metric)]
    ours = [*seeds(0.9, 0.8, 0.7), *seeds(0.5, 0.6, metric="reached")]
    mine = [*ours, *(replace(r, **of("mtp", 1), run=f"mtp-{r.seed}") for r in theirs)]
    assert note("taxi", mine, "seeds of") == (
        "Valid, reached %: 2 of the 3 seeds of NextLat (d=1)."
    )


def test_no_number_has_an_exponent() -> None:
    shown = {5.24e-5: "0.0000524", 1_234_567: "1235000", 0.12345: "0.1235", -1e-7: "-0.0000001"}
    assert {value: PLAIN.text(value) for value in shown} == shown
