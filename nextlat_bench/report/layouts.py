"""The tables as data: which rows, which columns, and what a reader must know of them."""

from collections.abc import Iterable
from typing import Any

from nextlat_bench.report.columns import LABELS, PLAIN, Column, Layout
from nextlat_bench.report.records import Record

__all__ = ["DETOUR", "GREEDY", "LAYOUTS", "ahead", "countdown", "layout_of", "names", "own_tasks"]

OURS = ("closed_nextlat", "stationary_nextlat", "noisy_nextlat")  # not the paper's
DETOUR = ("p=0.75,replace=random",)
HALF = ("p=0.5,replace=random",)
# a model that answers at every position at once has no other way to answer
GREEDY = ("decode=greedy", "decode=parallel")
BRANCH = tuple(f"{decoded},score=branch" for decoded in GREEDY)


def countdown(key: str, heading: str, *parts: str) -> Column:
    """Accuracy of greedy answers under one reading and one split."""
    condition = ",".join(["decode=greedy", *parts])
    return Column(key, heading, "accuracy", "accuracy", (condition,))


def known(reading: str) -> Column:
    """What a linear classifier knows of the state."""
    heading = f"State probe, {reading} %"
    return Column("", heading, "state_probe", "state_accuracy", (reading,))


def distinction(metric: str) -> Column:
    """A share of distinctions."""
    heading = f"Distinction, {metric.replace('_', ' ')}"
    return Column("", heading, "distinction", metric, form=".2f", most=1.0)


def compression(key: str, heading: str, protocol: str) -> Column:
    """A share of pairs of histories that lead to one state."""
    parameters = {"protocol": protocol}
    return Column(
        *(key, heading, "compression", "precision"), parameters=parameters, form=".2f", most=1.0
    )


def rank(key: str, heading: str, metric: str) -> Column:
    """Of the hidden states at all positions."""
    return Column(key, heading, "rank", metric, parameters={"positions": "all"})


def at(
    reading: str,
    multiple: int,
    metric: str = "accuracy",
    heading: str = "",
    probe: str = "length_generalization",
) -> Column:
    """At so many times the training length."""
    return Column(
        f"{reading}_{multiple}x" + f"_{metric}" * (metric != "accuracy"),
        heading or f"{reading.capitalize()} at {multiple}x %",
        probe,
        metric,
        (f"reading={reading},length={{}}",),
        multiple=multiple,
    )


def text(key: str, heading: str, domain: str, metric: str = "perplexity") -> Column:
    """Of held-out text of one domain."""
    return Column(key, heading, "perplexity", metric, (f"domain={domain}",), form=".2f")


def reach(reading: str, probe: str = "length_generalization") -> Column:
    where = (f"reading={reading}",)
    return Column("", f"Reach, {reading}", probe, "reach", where, form=".0f", typical=True)


DOMAINS = {"prose": "wikipedia", "books": "books", "code": "code", "math": "math"}  # ours, theirs


def drafts(domain: str, metric: str, heading: str, batch: int = 0) -> Column:
    """In drafts of at most five tokens; by the clock, so many texts at a time: the paper's one."""
    return Column(
        f"{metric}_{DOMAINS[domain]}" * (batch < 2),
        f"{heading}, {domain}",
        "speculation_speed" if batch else "speculation",
        metric,
        (f"draft=5,batch={batch},kind={domain}" if batch else f"draft=5,kind={domain}",),
        {} if batch else {"sampled": False},
        form=".2f",
    )


def ahead(reading: str, k: int) -> Column:
    """What a linear probe of the token k steps on still misses, in nats."""
    heading = f"{k} ahead, {reading}" if reading != "hidden" else f"{k} ahead"
    where = (f"ahead={k},reading={reading}",)
    return Column("", heading, "lookahead", "cross_entropy", where, form=".3f")


OF_TAXI: dict[str, Any] = {
    "task": "taxi",
    "rows": ("gpt", "mtp", "jtp", "nextlat", "oracle"),
    "settings": {"streets.source": "{}", "radius": "radius {:g} m", "generator": "{} walks"},
}
OF_LANGUAGE: dict[str, Any] = {
    "task": "language",
    "settings": {
        "source": "{} {digest}",
        "digest": "",
        "domain": "{} alone",
        "vocab_size": "{:,} tokens",
        "length": "rows of {}",
        "max_bytes": "{:,} bytes",
    },
    "usual": {"domain": "both"},
}
LAYOUTS = {
    "taxi": Layout(
        "Table 1. Taxi: did it learn the street map?",
        **OF_TAXI,
        columns=(
            Column("next_token", "Next-token %", "next_token", "legal_top1"),
            Column("legal", "Valid, legal %", "trajectories", "legal"),
            Column("reached", "Valid, reached %", "trajectories", "reached"),
            compression("compression", "Compression", "precision"),
            compression("compression_released", "Compression, published", "released"),
            rank("rank", "Latent rank", "effective_rank"),
            Column("", "Detours 0.5, legal %", "detours", "legal", HALF),
            Column("detour_legal", "Detours 0.75, legal %", "detours", "legal", DETOUR),
            Column("detour_reached", "Detours 0.75, reached %", "detours", "reached", DETOUR),
        ),
        notes=(
            "Compression: does the model allow after one history of a state what it writes after "
            "another? Published: scored after the history that produced them, as in the "
            "paper's script, so that it measures how peaked the model is; the paper's numbers are "
            "of it",
            "On Heliopolis, detours 0.75 leave the model about as many turns of its own as 0.5, so "
            "that scores need not be lower",
        ),
    ),
    "states": Layout(
        "Taxi: what do the hidden states know of where they are?",
        **OF_TAXI,
        columns=(
            *(known(reading) for reading in ("hidden", "untrained", "embedding")),
            *(distinction(metric) for metric in ("precision", "exact_precision", "recall")),
            rank("", "Rank, centred", "effective_rank_centred"),
            rank("", "Participation ratio", "participation_ratio"),
            Column("", "Transition, KL", "transition", "kl", ("steps=1",), form=".3f"),
            Column(
                *("", "Transition, distance", "transition", "latent_distance_ratio", ("steps=1",)),
                form=".2f",
            ),
        ),
        notes=(
            "State probe: of unseen positions the share whose state a linear classifier reads off "
            "the hidden states; then off those of the network with random weights, and off the "
            "tokens' embeddings",
            "Distinction: precision, of the model's distinctions between two states the share that "
            "are true; exact precision, that are so at the very token that the model refuses; "
            "recall, of the true ones the share that the model makes. Read it beside Table 1's "
            "compression, which a model of one state for everything would lead, and against the "
            "ideal learner: towards the greatest length the data take no turn after which the "
            "destination is out of reach, which the world allows, so that a perfect learner of the "
            "data does not score 1",
            "Participation ratio: the number of directions by squared singular values, so that "
            "only strong ones count; Table 1's latent rank counts a long tail of weak ones, too, "
            "and differs once the mean state is subtracted (centred)",
            "Transition: how far the state that the latent dynamics predict is from the trunk's "
            "state one token later: the KL of what either says next, in nats, and their distance "
            "over that of two states drawn at random; NextLat alone has such dynamics",
            "None of this is a claim of the paper's, and no verdict rests on it: these columns "
            "were put together after the records had been seen",
        ),
    ),
    "path_star": Layout(
        "Path-Star: does it know where it is going before it sets out?",
        task="path_star",
        rows=("gpt", "bst", "mtp", "jtp", "nextlat", "oracle"),
        columns=(
            Column("greedy", "Path, greedy %", "accuracy", "accuracy", GREEDY),
            Column("sampled", "Path, sampled %", "accuracy", "accuracy", ("decode=sampled",)),
            Column("branch", "Branch %", "accuracy", "accuracy", BRANCH),
            Column("teacher_forced", "Teacher-forced %", "teacher_forced", "accuracy"),
            Column("solved", "Solved %", "accuracy", "accuracy", GREEDY, solved_at=0.95),
        ),
        settings={
            "degree": "G({},{length})",
            "length": "",
            "num_nodes": "{} ids",
            "variant": "{}",
            "num_train": "{:,} graphs",
        },
        usual={"variant": "forward"},
        paper_settings=("degree", "length", "num_nodes", "variant"),
        notes=(
            "Branch: the second node of the path, the only hard decision; chance is one in as "
            "many as there are arms",
            "Teacher-forced: the share of tokens that are right after the true ones before them; "
            "high where only the branch is wrong",
            "Solved: the share of seeds with a greedy path accuracy of at least 95%, with its "
            "Wilson interval; seeds either solve this task or do not, so that their mean may "
            "describe none of them",
        ),
    ),
    "countdown": Layout(
        "Countdown: does it plan the sum before it writes it?",
        task="countdown",
        rows=("gpt", "bst", "mtp", "jtp", "nextlat", "oracle"),
        columns=(
            countdown("accuracy", "Held-out targets %", "kind=heldout"),
            countdown("seen", "Seen targets %", "kind=seen"),
            countdown("equations", "Equations valid %", "score=equations", "kind=heldout"),
            countdown("released", "Released reading %", "score=released", "kind=heldout"),
        ),
        settings={
            "num_inputs": "{} inputs of {min_input} to {max_input}",
            "min_input": "",
            "max_input": "",
            "min_target": "",
            "max_target": "targets {min_target} to {}",
            "num_train": "{:,} problems",
        },
        paired="accuracy",
        notes=(
            "Every column is of greedy answers; equations and the released reading are of held-out "
            "targets",
            "Released reading: the loose checker that was published, which never takes a number "
            "away; the paper's numbers are of it",
            "A seed's own interval is over its held-out targets; in the oldest records it is over "
            "trials, which is too narrow, and so are the rows that hold them",
        ),
    ),
    "a5": Layout(
        "A5: does it go on multiplying beyond the length it was taught?",
        task="a5",
        rows=("gpt", "mtp", "jtp", "nextlat", *OURS, "gru", "oracle"),
        columns=(
            at("trunk", 1),
            at("trunk", 3),
            at("recurrent", 1),
            at("recurrent", 3),
            at("recurrent", 20),
            at("recurrent", 3, "whole", "Whole word at 3x, recurrent %"),
            reach("trunk"),
            reach("recurrent"),
            at("unclocked", 3, probe="clock"),
            reach("unclocked", "clock"),
            Column("", "Share of position %", "clock", "position_share", form=".2f"),
        ),
        settings={"group": "{}", "length": "length {}", "num_train": "{:,} words"},
        paper_settings=("group", "length"),
        notes=(
            "At 1x, 3x, 20x: the running product at that multiple of the training length alone; "
            "whole word: at every position up to it",
            "Reach: the longest length up to which accuracy is at least 95% at every position; the "
            "median of the seeds, with the least and the largest, since seeds lie far apart",
            "MTP's further heads must name products of elements that they have not read, which "
            "is impossible: its row is GPT's with a second loss that only disturbs",
            "Closed, stationary and noisy states: ours, not the paper's. The first two add a loss "
            "to the paper's: beyond a word, unlabelled elements have to lead to states that the "
            "trunk has; the mean state may not move with position. The dynamics of noisy states "
            "learn from disturbed ones",
            "Growth: the training rows over which their words grow to 12 elements; NextLat (d=1, "
            "kl_weight=1.0) uses full-length words from the start, 384 a step for 3,000 steps. A "
            "mean of seeds of which some hold and others do not may describe none of them",
            "The trunk reads the whole word; the recurrent reading goes from state to state, one "
            "element a step, by NextLat's latent dynamics; a GRU's trunk does so anyway",
            "Unclocked: the recurrent reading with the hidden states held at their mean along the "
            "one direction in which this mean varies most with position; share of position: of the "
            "hidden states' variance in words of the training length. Ours, and "
            "put together after the recurrent reading had been seen, on NextLat's seeds 0 to 4 and "
            "the same test words: no verdict rests on it. Where there is no count (stationary "
            "states), or the dynamics' states are not the trunk's (noisy states), it says nothing; "
            "runs that were measured before lack it",
        ),
    ),
    "language": Layout(
        "Table 2. Language: what does looking ahead cost the next token?",
        **OF_LANGUAGE,
        rows=("gpt", "jtp", "mtp", "nextlat"),
        columns=(
            text("", "Code perplexity", "code"),
            text("", "Code bits/byte", "code", "bits_per_byte"),
            text("", "Prose perplexity", "prose"),
            text("", "Prose bits/byte", "prose", "bits_per_byte"),
            text("", "Text perplexity", "text"),
            text("fw_edu", "FW-Edu perplexity", "fineweb-edu"),
            text("wiki", "Wiki perplexity", "wikitext"),
            text("lambada", "LAMBADA perplexity", "lambada"),
            Column("accuracy", "Mean accuracy %", "", "", form=".2f"),
        ),
        notes=(
            "Perplexity is of tokens, and bits per byte of the text that they stand for; every "
            "token of the held-out files counts once, and its context is limited to its row",
            "FW-Edu, Wiki, LAMBADA, mean accuracy: the paper's, on other text, with another "
            "tokenizer and larger models, for the order among objectives alone; the last is over "
            "benchmarks that this suite does not measure",
        ),
    ),
    "lookahead": Layout(
        "Language: how far ahead do the hidden states see?",
        **OF_LANGUAGE,
        rows=("gpt", "bst", "jtp", "mtp", "nextlat"),
        columns=(
            *(ahead("hidden", k) for k in (1, 2, 3, 5, 10, 20)),
            *(ahead(reading, 10) for reading in ("untrained", "embedding", "frequency")),
        ),
        notes=(
            "Cross-entropy, in nats, of the token so many steps ahead, as a softmax regression "
            "reads it off the frozen hidden state; less is better",
            "Baselines, 10 ahead: the same network with random weights, the "
            "current token's embedding, and the tokens' frequencies alone",
            "JTP's state is read before the light head that says its next token, MTP's after the "
            "block that does, BST's is the forward encoder's",
            "Intervals are mostly those of the tokens, which are the same for all models: what "
            "two models differ by is steadier than either (see the figure's seeds)",
            "The paper asks this of TinyStories; its numbers are not beside these. No verdict "
            "rests on it: the table was put together after the records had been seen",
        ),
    ),
    "speculation": Layout(
        "Table 3. Self-speculative decoding: how far ahead is it right, and how much faster?",
        task="language",
        rows=("jtp", "mtp", "nextlat"),
        columns=(
            *(drafts(domain, "speedup", "Speed-up", batch=1) for domain in DOMAINS),
            *(drafts(d, "speedup", "16 at a time", batch=16) for d in ("prose", "code")),
            *(drafts(domain, "accepted", "Accepted") for domain in DOMAINS),
            *(drafts(d, "tau", "Tau") for d in ("prose", "code")),
            *(drafts(d, "bound", "Tau at most") for d in ("prose", "code")),
        ),
        settings={},
        notes=(
            "Drafts of at most five tokens, verified greedily; MTP and JTP draft no more than "
            "their horizon d",
            "Accepted: tokens a round, without the one that is always accepted; tau: with it "
            "(EAGLE's count); at most: all drafted tokens and one; less than six where a text ends "
            "or drafts end at the horizon",
            "Speed-up: over our own greedy decoding, which keeps its keys and values too; by the "
            "clock of one machine, one text at a time, where a pass costs much the same for one "
            "token as for six; 16 at a time: 16 texts at once, where each draft costs arithmetic",
            "Prose is compared with the paper's Wikipedia",
            "Of the 128 prompts of prose 50 are of one document. These records' intervals take "
            "each prompt alone; by document, as now, a bigram model's are 1.2 times as wide there",
        ),
    ),
}


FEW = 4  # conditions of one metric that a task of one's own has a column each of


def names(records: Iterable[Record] = ()) -> list[str]:
    """The tables there are: the suite's, then of each task of one's own."""
    return [*sorted(LAYOUTS), *own_tasks(records)]


def own_tasks(records: Iterable[Record]) -> list[str]:
    """Those that are in no layout."""
    return sorted({r.task for r in records} - {layout.task for layout in LAYOUTS.values()})


def layout_of(table: str, records: Iterable[Record]) -> Layout:
    """The named one; of a task of one's own all that was measured."""
    return LAYOUTS.get(table) or _own(table, [r for r in records if r.task == table])


def _own(task: str, records: list[Record]) -> Layout:
    """Every metric, under each condition with a value where they are few, else under none."""
    known = {(c.probe, c.metric): c for layout in LAYOUTS.values() for c in layout.columns}
    found: dict[tuple[str, str], set[str]] = {}
    for r in records:  # what does not apply has a row without a condition: none of the metric's own
        found.setdefault((r.probe, r.metric), set()).update([r.condition] * (r.value is not None))
    columns = []
    for (probe, metric), conditions in sorted(found.items()):
        conditions = conditions or {""}  # no value at all: the notes say why
        like = known.get((probe, metric), PLAIN)
        for condition in sorted(conditions if len(conditions) <= FEW else conditions & {""}):
            said = ", ".join(filter(None, (probe, metric, condition))).replace("_", " ")
            if said.endswith("%"):  # which would make percentages of the values
                said = f"{said[:-1].rstrip()} percent"
            asked = "", said + " %" * like.percent, probe, metric, (condition,)
            columns.append(Column(*asked, form=like.form, most=like.most, typical=like.typical))
    who = {r.objective for r in records}
    order = {name: i for i, name in enumerate(LABELS)}
    rows = sorted(who, key=lambda name: (name == "oracle", order.get(name, len(order)), name))
    return Layout(
        f"{task}: what was measured",
        task=task,
        rows=tuple(rows),
        columns=tuple(columns),
        settings={},
        notes=(
            "Every metric that was measured of this task, under each of its conditions where they "
            f"are no more than {FEW}; the records hold them all",
        ),
    )
