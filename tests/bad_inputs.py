"""What can be typed wrongly, verb by verb, and what must be said.

`COMMANDS`: verb -> name -> (arguments, part of the refusal). RUN stands for a small finished run's
folder, HERE for its recipe; an argument that is a key of bad_places.PLACES is made first, in the
working directory. Wrong values of fields, and damaged JSON: bad_fields.py.
"""

from bad_places import DRAWN, HALVES, MEASURED, OTHER, STATES, UNFINISHED, UNFIT, UNTRAINED, Places

__all__ = ["COMMANDS", "HERE", "RUN"]

SETTINGS = ("training.steps=2", "training.examples=4", "decoder.width=32", "decoder.layers=1")
HERE = ["path_star", "--scale", "smoke", *(x for s in SETTINGS for x in ("--set", s))]
RUN = "RUN"
HUGE = "9" * 400
LONG = "x" * 5_000

Refusals = dict[str, tuple[list[str], str]]


def settings(verb: str, task: str, **wrong: str) -> Refusals:
    """--set PART.FIELD=VALUE for each `part_field` -> VALUE; Class.field must be named."""
    return {
        f"{path} = {value[:20]!r}": (
            [verb, task, "--scale", "smoke", "--set", f"{path.replace('__', '.')}={value}"],
            path.rpartition("__")[2],
        )
        for path, values in wrong.items()
        for value in values.split(" ")
    }


STREETS = {
    "": "streets = ''",
    "a\nb": "streets = ",
    "a\0b.csv": "streets = ",
    "nowhere.graphml": "nowhere.graphml: no such file",
    LONG + ".csv": "cannot be read",
    "/dev/null": "unknown kind of file",
    "arrays.npz": "unknown kind of file",
    "objects.npz": "unknown kind of file",
    "folder.osm": "is a folder",
    "fifo.csv": "is not a regular file",
    "fifo.graphml": "is not a regular file",
    "loop.graphml": "loop.graphml",
    "latin.csv": "line 2: not UTF-8",
    "nul.graphml": "not GraphML",
    "deep.graphml": "not GraphML",
    "laughs.osm": "<!DOCTYPE is refused",
    "junk.csv": "junk.csv",
    "junk.osm": "not UTF-8",
    "junk.graphml": "not UTF-8",
    "letters.graphml": "not GraphML",
    "letters.osm": "not OSM XML",
    "blank.graphml": "not GraphML",
    "lines.csv": "expected the header",
    "longname.csv": "expected at most 100",
}
COMMON: Refusals = {  # the verbs that name a task: VERB is put in
    "unknown task": (["taxy"], "did you mean 'taxi'"),
    "empty task": ([""], "no task named ''"),
    "a NUL": (["ta\0xi"], "no task named"),
    "unicode": (["täxi"], "did you mean 'taxi'"),
    "no task": ([], "Missing argument 'TASK'"),
    "two tasks": (["taxi", "a5"], "a5"),
    "unknown option": (["taxi", "--sead", "1"], "--sead"),
    "unknown scale": (["taxi", "--scale", "huge"], "no scale named 'huge'"),
    "empty scale": (["taxi", "--scale", ""], "no scale named ''"),
    "streets of a star": (["path_star", "--streets", "x"], "--streets is not for path_star"),
    "a star of streets": (["taxi", "--graph", "2x5"], "--graph is not for taxi"),
    "bad graph": (["path_star", "--graph", "two"], "graph = 'two': expected DEGREExLENGTH"),
    "empty graph": (["path_star", "--graph", ""], "graph = '': expected DEGREExLENGTH"),
    "empty arm": (["path_star", "--graph", "2x0"], "PathStar.length = 0"),
    "no arm": (["path_star", "--graph", "0x5"], "PathStar.degree = 0"),
    "wide graph": (["path_star", "--graph", "999x999"], "PathStar.num_nodes = "),
    "too few ids": (["path_star", "--set", "task.num_nodes=8"], "PathStar.num_nodes = 8"),
    "no such group": (["a5", "--set", "task.group=A6"], "A5.group = 'A6': expected one of"),
    "too many inputs": (["countdown", "--set", "task.num_inputs=9"], "num_inputs = 9"),
    "tiny radius": (["taxi", "--set", "task.radius=1"], "within 1 m of its centre"),
    "nameless setting": (["taxi", "--set", "steps=3"], "expected PART.FIELD=VALUE"),
    "no setting": (["taxi", "--set", ""], "expected PART.FIELD=VALUE"),
    "unknown part": (["taxi", "--set", "trainig.steps=3"], "did you mean 'training'"),
    "unknown field": (["taxi", "--set", "training.step=1"], "did you mean 'steps'"),
    "bad value": (["taxi", "--set", "training.steps=x"], "expected int"),
    "no value": (["taxi", "--set", "training.steps="], "expected int"),
    "no map": (["taxi", "--streets", "nowhere.csv"], "nowhere.csv: no such file"),
}
OUT = {
    "": "--out '': expected a path",
    "/dev/null/x": "/dev/null",
    "a-file": "a-file",
    "a-fifo": "a-fifo",
    "a-loop": "a-loop",
    "a\0b": "null",
    LONG: "File name too long",
}


def common(verb: str) -> Refusals:
    return {name: ([verb, *rest], says) for name, (rest, says) in COMMON.items()}


def states(verb: list[str], *tables: Places, out: bool = False, to: str = "") -> Refusals:
    found = {name: says for table in tables for name, (_, says) in table.items()}
    rest = [to] if to else []
    return {
        name: ([*verb, f"{name}-out" if out else name, *rest], says) for name, says in found.items()
    }


COMMANDS: dict[str, Refusals] = {
    "nextlat-bench": {
        "unknown verb": (["trian", "taxi"], "trian"),
        "empty verb": ([""], "No such command"),
        "unknown option": (["--verbose"], "--verbose"),
    },
    "run": {
        **common("run"),
        "unknown objective": (["run", "taxi", "--objective", "next_lat"], "mean 'nextlat'"),
        "empty objective": (["run", "taxi", "--objective", ""], "no objective named ''"),
        "no such device": (["run", "taxi", "--device", "tpu"], "--device tpu: this machine has"),
        "no such GPU": (["run", "taxi", "--device", "cuda:99"], "--device cuda:99"),
        "shards of one process": (
            ["run", *HERE, "--shard", "--out", "sh"],
            "start them with torchrun",
        ),
        "farther than any token": (
            ["run", "path_star", "--scale", "smoke", "--set", "objective.horizon=99"],
            "no token is farther ahead than",
        ),
        "no end": (["run", "a5", "--objective", "bst"], "bst needs sequences that close"),
        "no example": (
            ["run", "a5", "--objective", "gpt", "--set", "task.group=S3", "--set", "task.length=1"],
            "too few words",
        ),
        "unknown split": (["run", "taxi", "--split", "tests"], "did you mean 'test'"),
        "a split of short words": (["run", "a5", "--split", "train"], "train words have 1 to 12"),
        "no field at all": (
            ["run", "taxi", "--objective", "gpt", "--set", "objective.horizon=2"],
            "no field of objective named 'horizon': there is none at all",
        ),
        **{f"seed {v[:9]!r}": (["run", "taxi", "--seed", v], "seed") for v in ("-1", "x", "1.5")},
        "huge seed": (["run", "taxi", "--seed", HUGE], "Run.seed = "),
        **{f"threads {v}": (["run", "taxi", "--threads", v], "threads") for v in ("0", "-1", "x")},
        "many threads": (["run", "taxi", "--threads", "1000000000"], "threads"),
        **{f"streets {k[:20]!r}": (["run", "taxi", "--streets", k], v) for k, v in STREETS.items()},
        **{f"out {k[:12]!r}": (["run", *HERE, "--out", k], v) for k, v in OUT.items()},
        "out with a sign": (["run", *HERE, "--out="], OUT[""]),
        **settings(
            "run",
            "path_star",
            training__steps=f"0 -1 1.5 nan {10**18} {HUGE}",
            training__examples=f"0 {10**18}",
            training__micro_batches=f"0 {10**18}",
            training__learning_rate=f"-1 nan inf -inf 1e999 x {HUGE}",
            training__clip="0 -1 nan",
            training__precision="fp8 none",
            training__row_length="1 5",
            decoder__layers=f"0 {10**18}",
            decoder__width=f"0 33 {10**18}",
            decoder__zero_init_residual="maybe 1",
            decoder__mark_start="maybe 1",
            objective__horizon=f"0 {10**18}",
            objective__kl_weight="-1 nan",
            task__degree=f"0 {10**18}",
            task__num_train=f"0 {10**18}",
            task__heldout="0 0.5 nan -1",
            task__variant="sideways None",
        ),
        **states(["run", *HERE, "--out"], UNFINISHED, HALVES, out=True),
        **{
            name: (["run", *HERE, "--out", f"{name}-out"], says)
            for name, (_, says) in STATES.items()
            if name not in ("empty-run", "no-json")  # begun anew, and nothing is lost
        },
    },
    "probe": {
        **states(["probe"], STATES, UNTRAINED, UNFIT, MEASURED),
        "no subject": (["probe"], "expected RUN_DIR, SUBJECT or --model PATH"),
        "no such subject": (["probe", "nowhere"], "neither a run folder nor a known subject"),
        "a file": (["probe", "a-file"], "neither a run folder nor a known subject"),
        "a NUL": (["probe", "a\0b"], "neither a run folder nor a known subject"),
        "unknown probe": (["probe", RUN, "compresion"], "did you mean 'compression'"),
        "a graph for a run": (["probe", RUN, "--graph", "3x4"], "already fixes it"),
        "a scale for a run": (
            ["probe", RUN, "--scale", "smoke"],
            "already fixes it",
        ),
        "a place for a run": (["probe", RUN, "--out", "r"], "--out: "),
        "unknown probe of a known subject": (["probe", "oracle", "compresion"], "did you mean"),
        "unknown task": (["probe", "oracle", "--task", "taxy"], "did you mean 'taxi'"),
        "unknown scale": (["probe", "oracle", "--scale", "huge"], "no scale named 'huge'"),
        "unknown split": (["probe", "oracle", "--split", "dev"], "no split named 'dev'"),
        "no such device": (["probe", RUN, "--device", "tpu"], "--device tpu"),
        "a device of an oracle": (
            ["probe", "oracle", "--device", "cpu"],
            "oracle is not a network",
        ),
        "a device of a function": (
            ["probe", "--model", "math:pi", "--device", "cpu"],
            "math:pi says itself where it computes",
        ),
        "no tagger": (["probe", "clever_hans", "--task", "a5"], "no subject named"),
        "no branch": (["probe", "clever_hans", "--task", "taxi"], "no branch is known"),
        "no such model": (["probe", "--model", "nowhere"], "nowhere"),
        "a file as model": (["probe", "--model", "a-file"], "a-file"),
        "a run as model": (["probe", "--model", RUN], "a run folder is probed without --model"),
        "no such module": (["probe", "--model", "no_package:f"], "no_package"),
        "no such function": (["probe", "--model", "math:f"], "math"),
        "no function": (["probe", "--model", "math:pi"], "math:pi"),
        "no map": (["probe", "oracle", "--streets", "nowhere.csv"], "no such file"),
        **{f"out {k[:12]!r}": (["probe", "oracle", "--out", k], v) for k, v in OUT.items()},
    },
    "plan": {
        **common("plan"),
        "unknown objective": (["plan", "taxi", "--objective", "next_lat"], "mean 'nextlat'"),
        "unknown GPU": (["plan", "taxi", "--gpu", "h10"], "did you mean 'h100'"),
    },
    "show": {
        **states(["show"], STATES, OTHER, MEASURED),
        "no folder": (["show"], "Missing argument"),
        "no such run": (["show", "nowhere"], "nowhere"),
        "a file": (["show", "a-file"], "a-file"),
        "a NUL": (["show", "a\0b"], "null"),
        "no picture": (["show", RUN, "--map", "map.pdf"], "expected a name that ends in .png"),
        "no street map": (["show", RUN, "--map", "map.png"], "path_star has no street map"),
    },
    "sample": {
        **common("sample"),
        "unknown split": (["sample", "taxi", "--split", "dev"], "dev"),
        **{f"n {v}": (["sample", "taxi", "-n", v], "-n") for v in ("0", "-1", "x", "1.5")},
        "huge n": (["sample", "taxi", "-n", str(10**18)], f"n = {10**18}"),
        **{f"start {v}": (["sample", "a5", "--start", v], "start") for v in ("-1", "x", HUGE)},
        "bad suffix": (["sample", "taxi", "--out", "x.csv"], ".npz or .jsonl"),
        "no suffix": (["sample", "taxi", "--out", "x"], ".npz or .jsonl"),
        "no folder": (["sample", "taxi", "--out", "nowhere/x.npz"], "No such file"),
        "in a file": (["sample", "taxi", "--out", "a-file/x.npz"], "Not a directory"),
        "a folder": (["sample", "taxi", "--out", "folder.npz"], "folder.npz"),
    },
    "list": {
        "unknown list": (["list", "worlds"], "no list named 'worlds'"),
        "empty list": (["list", ""], "no list named ''"),
        "two lists": (["list", "tasks", "probes"], "probes"),
    },
    "report": {
        "unknown table": (["report", "texi"], "taxi"),
        "unknown format": (["report", "taxi", "--format", "pdf"], "no format named 'pdf'"),
        "empty format": (["report", "--format", ""], "no format named ''"),
        "no such records": (["report", "--records", "nowhere"], "nowhere"),
        **{
            f"empty {x}": (["report", x, ""], f"{x} '': expected")
            for x in ("--figures", "--records")
        },
        "no records": (["report", "--records", "a-folder"], "no records in a-folder: run some"),
        **{
            name: (["report", "taxi", "--records", name, "--figures", "drawn"], says)
            for name, (_, says) in DRAWN.items()
        },
        "figures outside their folder": (
            ["report", "../outside", "--records", "outside.jsonl", "--figures", "drawn"],
            "--figures drawn: no file can be named after the task '../outside'",
        ),
        "a file of the terminal's": (
            ["report", "--out", "x.txt"],
            "--out x.txt: a file is written",
        ),
        **{
            f"out {to[:12]!r}": (["report", "--format", form, "--out", to], says)
            for form, to, says in (
                ("html", "a-folder", "--out a-folder: is not a regular file"),
                ("csv", "a-fifo", "--out a-fifo: is not a regular file"),
                ("html", "/dev/null", "--out /dev/null: is not a regular file"),
                ("html", "nowhere/x.html", "--out nowhere/x.html: there is no folder nowhere"),
                ("csv", "a-file/x.csv", "--out a-file/x.csv: there is no folder a-file"),
                ("html", "a\0b", "null"),
                ("html", LONG, "File name too long"),
            )
        },
        "a file of something else": (["report", "--records", "a-file"], "or a .jsonl file"),
        "two sources": (["report", "--records", "runs", "--committed"], "choose one of them"),
        "figures in a file": (["report", "a5", "--figures", "a-file"], "a-file"),
        **{
            name: (["report", "taxi", "--records", name], says)
            for name, says in {
                **{f"{kind}.jsonl": "line 1" for kind in ("cut", "short", "list", "latin", "deep")},
                **{f"{kind}.jsonl": "line 1" for kind in ("digits", "junk", "letters")},
                "nested.jsonl": "line 1: nested too deeply",
                **{f"{kind}.jsonl": "of more than 300 digits" for kind in ("whole", "radius")},
                "value.jsonl": "of more than 300 digits",
                **{f"{kind}.jsonl": "control characters" for kind in ("command", "broken", "half")},
                "newer.jsonl": "schema 2 is newer",
                "a-fifo": "no such file or folder of records",
                "a-loop": "no such file or folder of records",
                **{name: says for name, (_, says) in MEASURED.items()},
            }.items()
        },
    },
    "sweep": {
        **common("sweep"),
        "unknown objective": (["sweep", "a5", "--objective", "gpt,nextlatt"], "mean 'nextlat'"),
        "no objective": (["sweep", "a5", "--objective", "gpt,"], "no objective named ''"),
        "nobody's field": (["sweep", "a5", "--set", "objective.horizons=1"], "named 'horizons'"),
        "one bad value": (["sweep", "a5", "--set", "training.steps=1,x"], "steps=x: expected int"),
        "one bad graph": (["sweep", "path_star", "--graph", "2x5,3"], "graph = '3'"),
        "unknown probe": (["sweep", "a5", "--probes", "rank,compresion"], "mean 'compression'"),
        "unknown probe of a run": (["run", "a5", "--probes", "rnk"], "mean 'rank'"),
        "no probe": (["sweep", "a5", "--probes", "rank,"], "no probe named ''"),
        "committed and seeds": (["sweep", "a5", "--committed", "--seeds", "3"], "--seeds: not"),
        "unknown split": (["sweep", "a5", "--split", "dev"], "no split named 'dev'"),
        "a split of short words": (["sweep", "a5", "--split", "train"], "words have 1 to 12"),
        "unknown engine": (["sweep", "a5", "--engine", "slurm"], "no engine named 'slurm'"),
        "no such device": (["sweep", "a5", "--device", "tpu"], "--device tpu"),
        **{f"{o} {v}": (["sweep", "a5", o, v], o) for o in ("--seeds", "--jobs") for v in "0x"},
        "--seeds by the million": (["sweep", "a5", "--seeds", "1000000"], "--seeds"),
        "--jobs by the million": (["sweep", "a5", "--jobs", "1000000"], "--jobs"),
        **{f"out {k[:12]!r}": (["sweep", *HERE, "--out", k], v) for k, v in OUT.items()},
    },
    "export": {
        "no run": (["export"], "Missing argument"),
        "no folder": (["export", RUN], "Missing argument"),
        "no such run": (["export", "nowhere", "out"], "nowhere"),
        "a file": (["export", RUN, "a-file"], "a-file"),
        "not empty": (["export", RUN, RUN], "is not an empty folder"),
        "unknown format": (["export", RUN, "out", "--format", "onnx"], "no format named 'onnx'"),
        **states(["export"], STATES, UNTRAINED, to="out"),
    },
}
