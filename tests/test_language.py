"""Language: every token of every file is a target once, splits share no text, nothing depends on
the process. The reference reads the files themselves."""

import doctest
import hashlib
import json
import pickle
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from texts import LENGTH, texts_task, write_texts

from nextlat_bench import registry
from nextlat_bench.data import step_batches
from nextlat_bench.decoder import count_parameters
from nextlat_bench.model import Model, build
from nextlat_bench.plan import cost
from nextlat_bench.presets import language as presets
from nextlat_bench.probes._sampling import documents
from nextlat_bench.report.columns import DASH
from nextlat_bench.tasks import _text, language
from nextlat_bench.tasks._core import SPLITS
from nextlat_bench.tasks._text import PYTHON, Unit, load_units, split_units
from nextlat_bench.tasks.language import Language

HELD = SPLITS[1:]
SMOKE = presets.run("gpt", "smoke").task


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("texts") / "logs"
    write_texts(place)
    return place


@pytest.fixture(scope="module")
def task(folder) -> Language:
    return texts_task(folder)


def whole(task: Language, split: str):
    return task.sample(split, 0, len(language._rows(task, split)))


def files_of(task: Language, split: str) -> list[str]:
    """The texts of a split, from the files alone."""
    texts = [p.read_bytes().decode() for p in Path(task.source).iterdir()]
    units = [Unit.of(text, [("text", text)]) for text in texts]
    of = split_units(units, task.seed, task.heldout)
    return [text for text, s in zip(texts, of, strict=True) if SPLITS[s] == split]


@pytest.mark.parametrize("split", HELD)
def test_heldout_rows_are_the_files(task, split):
    """The targets of a document's rows, put in order, are the file."""
    batch, files = whole(task, split), files_of(task, split)
    rebuilt = []
    for document in np.unique(batch.document[:, 0]):
        rows = np.flatnonzero(batch.document[:, 0] == document)
        pieces = []
        for row in rows:
            used = batch.document[row] == document
            assert (batch.document[row][~used] == -1).all()
            assert batch.tokens[row, 0] == task.first_mark
            np.testing.assert_array_equal(batch.position[row, used], np.arange(used.sum()))
            targets = batch.targets[row, used]
            np.testing.assert_array_equal(batch.tokens[row, used][1:], targets[: used.sum() - 1])
            pieces.append([t for t in targets.tolist() if t >= 0])
        [closing] = [piece for piece in pieces if piece[-1] == task.vocab.end]
        assert all(len(piece) == LENGTH for piece in pieces if piece is not closing)
        rest = [task.text(np.array(piece)) for piece in pieces if piece is not closing]
        [own] = [f for f in files if all(part in f for part in rest) and f.endswith(
            task.text(np.array(closing[:-1])))]  # fmt: skip
        rebuilt.append(own)
        size = task.token_bytes()[[t for piece in pieces for t in piece]].sum()
        assert size == len(own.encode())
    assert Counter(rebuilt) == Counter(files)


def test_training_rows_are_full_and_hold_each_token_once(task):
    batch, files = whole(task, "train"), files_of(task, "train")
    scored = batch.targets >= 0
    assert task.token_bytes()[batch.targets[scored]].sum() == sum(len(f.encode()) for f in files)
    assert (batch.targets == task.vocab.end).sum() == len(files)
    assert (batch.document >= 0).mean() > 0.9
    assert (batch.document > 0).any()
    starts = batch.position == 0
    for row in range(len(batch)):
        ids = batch.document[row]
        begins = np.flatnonzero(np.diff(ids, prepend=-2) != 0)
        begins = begins[ids[begins] >= 0]
        np.testing.assert_array_equal(ids[begins], np.arange(len(begins)))
        np.testing.assert_array_equal(np.flatnonzero(starts[row] & (ids >= 0)), begins)
    assert (batch.tokens[starts & (batch.document >= 0)] == task.first_mark).all()
    same = batch.document[:, 1:] == batch.document[:, :-1]
    np.testing.assert_array_equal(batch.tokens[:, 1:][same & scored[:, :-1]],
                                  batch.targets[:, :-1][same & scored[:, :-1]])  # fmt: skip
    (step,) = step_batches(task, 0, 64, None, 1)
    assert step.packed


def test_random_access_and_epochs(task):
    size = len(language._rows(task, "train"))
    rows = task.sample("train", 0, 3 * size).tokens
    for start, n in ((0, 0), (size - 1, 2), (2 * size, 5)):
        np.testing.assert_array_equal(
            task.sample("train", start, n).tokens, rows[start : start + n]
        )
    epochs = rows.reshape(3, size, LENGTH)
    for epoch in epochs[1:]:
        assert not np.array_equal(epoch, epochs[0])
        assert Counter(map(bytes, epoch)) == Counter(map(bytes, epochs[0]))
    assert len(task.sample("test", 10**6, 4)) == 0


def test_prompts_are_completed_by_their_documents():
    task = Language(max_bytes=400_000, vocab_size=512, length=32, heldout=0.2)
    prompts = task.prompts("test", 0, 40)
    assert prompts.shape == (40, 16)
    assert task.kinds(prompts[:6]).tolist() == ["code", "prose"] * 3
    rows = whole(task, "test")
    right = rows.tokens[rows.position[:, -1] == 31]
    assert task.check(right[:, :16], right[:, 16:]).all()
    wrong = right.copy()
    wrong[:, 20] = (wrong[:, 20] + 1) % 256
    assert not task.check(wrong[:, :16], wrong[:, 16:]).any()
    assert not task.check(right, right).any()  # longer than a row
    own = {bytes(row): n for row, n in zip(rows.tokens[:, :16], rows.document[:, 0], strict=True)}
    clusters = task.clusters(prompts)
    assert clusters.tolist() == [own[bytes(row)] for row in prompts.astype(np.int32)]
    assert 1 < len(set(clusters.tolist())) < 40  # some documents have several
    assert task.clusters(prompts[:2] * 0).tolist() == [-1, -2]


def test_no_heldout_prose_stands_in_training_code():
    """A module's docstring is of the split of its source file; what modules copy is left."""
    task = Language(max_bytes=2_000_000, vocab_size=512, length=64, heldout=0.2)
    units = load_units(task.source, task.max_bytes)
    of = split_units(units, 0, 0.2)
    train = (unit for unit, s in zip(units, of, strict=True) if SPLITS[s] == "train")
    known = "\n".join(text for unit in train for _, text in unit.documents)
    for split in HELD:
        rows = whole(task, split)
        prose = (task.kinds(rows.tokens) == "prose") & (rows.position[:, -1] == 63)
        assert prose.sum() > 50
        parts = (task.text(t[t < task.first_mark]) for t in rows.targets[prose])
        assert np.mean([part in known for part in parts]) < 0.05


def test_the_python_text_is_source_and_documentation():
    texts = {"code": [], "prose": []}
    for unit in load_units(PYTHON):
        for domain, text in unit.documents:
            texts[domain].append(text)
    assert len(texts["code"]) > 300
    assert len(texts["prose"]) > 150
    assert _text.docstring("import os\n'''no'''") == ""
    assert not any("generated" in text[:600].lower() and "do not edit" in text[:600].lower()
                   for text in texts["code"])  # fmt: skip
    assert any(text.startswith('The "if" statement') for text in texts["prose"])
    assert _text.docstring('# x\n\n"""Deep\n\n    thought."""\n') == "Deep\n\nthought."
    assert _text.docstring("b'no text'") == _text.docstring("x = 1") == _text.docstring("") == ""


def test_the_tokenizer_learns_from_training_files_alone(folder, tmp_path):
    """A word that fills a held-out file becomes no token; in a training file it does."""
    words = {}
    for wanted in ("train", "test"):
        place = tmp_path / wanted
        write_texts(place)
        for number in range(1000):
            (place / "odd.txt").write_text(f"{number} " + "qzjx " * 100)
            found = texts_task(place)
            if any("qzjx" in text for text in files_of(found, wanted)):
                break
        words[wanted] = found.vocab.tokens
    assert any("qzjx" in word for word in words["train"])
    assert not any("qz" in word for word in words["test"])


def test_a_lone_file_is_cut_into_documents(tmp_path):
    lines = [f"line {i} of a long letter\n" + "\n" * (i % 7 == 0) for i in range(3_000)]
    file = tmp_path / "letter.txt"
    file.write_text("".join(lines))
    assert "".join(_text.sections("".join(lines))) == "".join(lines)
    task = texts_task(file)
    scored = [whole(task, split).targets for split in SPLITS]
    sizes = [task.token_bytes()[t[t >= 0]].sum() for t in scored]
    assert sum(sizes) == file.stat().st_size
    assert min(sizes) > 2_000


FRESH = """
import hashlib, sys
from texts import texts_task
task, content = texts_task(sys.argv[1]), hashlib.sha256()
for split in ("train", "validation", "test"):
    batch = task.sample(split, 0, 64)
    for values in (batch.tokens, batch.targets, batch.document, batch.position):
        content.update(values.astype("<i4").tobytes())
content.update("".join(task.vocab.tokens).encode())
print(content.hexdigest()[:16])
"""


def test_rows_of_a_lone_heldout_document_belong_together(tmp_path):
    """They were documents of their own, and intervals over documents were those over rows."""
    rng = np.random.default_rng(0)
    for i in range(20):
        words = ("".join(rng.choice(list("abcdefgh"), 4)) for _ in range(300))
        (tmp_path / f"{i}.txt").write_text(" ".join(words))
    lone = Language(source=str(tmp_path), vocab_size=300, length=16, heldout=0.05)
    for split in HELD:
        batch = lone.sample(split, 0, 1000)
        assert len(batch) > 10
        assert len(set(documents(batch).tolist())) == 1


def test_the_same_everywhere(folder, tmp_path):
    """In processes with caches, hash seeds and threads of their own; the value is a constant."""
    seen = []
    for number in (1, 2):
        place = {"NEXTLAT_BENCH_CACHE": str(tmp_path / str(number)), "PYTHONHASHSEED": str(number)}
        place |= {"RAYON_NUM_THREADS": str(number), "PYTHONPATH": str(Path(__file__).parent)}
        done = subprocess.run([sys.executable, "-c", FRESH, str(folder)], env=place,
                              capture_output=True, text=True, check=True)  # fmt: skip
        seen.append(done.stdout.strip())
    assert seen[0] == seen[1]


def test_a_damaged_cache_is_made_anew(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("NEXTLAT_BENCH_CACHE", str(tmp_path))
    task = texts_task(folder, seed=3)
    before = task.sample("train", 0, 9).tokens
    [kept] = tmp_path.iterdir()
    kept.write_bytes(kept.read_bytes()[:300])
    language._corpus.cache_clear()
    language._rows.cache_clear()
    np.testing.assert_array_equal(task.sample("train", 0, 9).tokens, before)
    assert kept.stat().st_size > 300


def test_another_text_is_refused(folder, tmp_path):
    task = texts_task(folder)
    again = registry.from_json("tasks", json.loads(json.dumps(registry.to_json(task))))
    assert again == task
    assert pickle.loads(pickle.dumps(task)) == task
    with pytest.raises(ValueError, match=r"Language.digest = '0+': expected .*its text changed"):
        texts_task(folder, digest="0" * 16)
    with pytest.raises(ValueError, match=rf"'python-2\.7': expected {PYTHON}, which runs here"):
        Language(source="python-2.7")
    assert Language().source == PYTHON
    assert Language(source=PYTHON) == Language()


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        *[({"source": bad}, "Language.source = ") for bad in ("", "\0", 3, None, "no/such/place")],
        ({"domain": "poems"}, "Language.domain = 'poems'"),
        ({"domain": "code", "source": "."}, "only the text of Python has domains"),
        ({"vocab_size": 299}, "Language.vocab_size = 299"),
        ({"length": 15}, "Language.length = 15"),
        ({"max_bytes": 0}, "Language.max_bytes = 0"),
        ({"heldout": 0.5}, "Language.heldout = 0.5"),
        ({"digest": 3}, "Language.digest = 3"),
    ],
)
def test_bad_parameters(fields, said):
    with pytest.raises(ValueError, match=said):
        Language(**fields)


def test_bad_texts(tmp_path, monkeypatch):
    (tmp_path / "a.txt").write_bytes(b"caf\xe9")
    with pytest.raises(ValueError, match=r"Language.source = .*a\.txt: not UTF-8 text"):
        texts_task(tmp_path)
    (tmp_path / "a.txt").write_text("one file")
    (tmp_path / ".hidden").write_bytes(b"caf\xe9")
    with pytest.raises(
        ValueError, match=r"no .* documents in .*: 1 are too few .max_bytes = None.,"
    ):
        texts_task(tmp_path).sample("train", 0, 1)
    monkeypatch.setattr(_text, "MOST_BYTES", 5)
    for source in (tmp_path, tmp_path / "a.txt"):
        with pytest.raises(ValueError, match="more than 5 bytes of files"):
            texts_task(source)


def test_a_hugging_face_set_is_counted_without_its_data():
    """The paper's sizes, where neither data nor network nor weights are at hand."""
    parameters = {}
    for objective, horizon in (("gpt", 0), ("mtp", 1), ("mtp", 2), ("mtp", 8), ("nextlat", 2)):
        run = presets.run(objective, "paper")
        run = run.override([f"objective.horizon={horizon}"] if horizon else [])
        counted = cost(run)
        parameters[objective, horizon] = round(counted["parameters"] / 1e9, 2)
        assert counted["tokens_per_step"] == 512 * 1024
    assert parameters == {("gpt", 0): 1.32, ("mtp", 1): 1.37, ("mtp", 2): 1.42, ("mtp", 8): 1.72,
                          ("nextlat", 2): 1.40}  # fmt: skip
    if not any(name.startswith("datasets") for name in sys.modules):
        with pytest.raises(ValueError, match=r"needs the package datasets: pip install 'nextlat"):
            presets.run("gpt", "paper").task.sample("train", 0, 1)


@pytest.mark.parametrize("objective", ["gpt", "mtp", "jtp", "nextlat", "bst"])
def test_every_objective_learns_from_it(objective):
    run = presets.run(objective, "smoke")
    model = build(run)
    (batch,) = step_batches(run.task, 0, 8, None, 1)
    total = run.objective.loss(model.decoder, model.extra, batch).total
    total.backward()
    assert total.isfinite()
    assert all(p.grad is not None for p in model.decoder.parameters())
    with torch.device("meta"):
        assert count_parameters(Model(run)) == count_parameters(model)


def test_readable_text(task):
    batch = whole(task, "test")
    shown = task.text(batch.tokens[int(np.argmin(batch.lengths))])
    assert shown.startswith("<text>\n")
    assert shown.rstrip("\n").endswith("<end>")
    assert doctest.testmod(language).failed == 0


def test_it_needs_numpy_alone():
    code = (
        "import sys; from nextlat_bench.tasks.language import Language; Language(); "
        "bad = {'torch', 'pandas', 'tokenizers', 'datasets', 'scipy'} & set(sys.modules); "
        "assert not bad, bad"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_benchmark_is_a_constant(task):
    content = hashlib.sha256()
    for split in SPLITS:
        batch = task.sample(split, 0, 64)
        content.update(batch.tokens.astype("<i4").tobytes())
        content.update(batch.targets.astype("<i4").tobytes())
    assert content.hexdigest()[:12] == "fb1af99cd5f6"


def test_a_run_from_the_command_line(tmp_path):
    quick = [x for s in ("training.steps=6", "decoder.width=32", "training.examples=8")
             for x in ("--set", s)]  # fmt: skip

    def call(*arguments):
        command = [sys.executable, "-m", "nextlat_bench", *arguments]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)

    assert (
        "bits per byte  domain=prose" in call("run", "language", "--scale", "smoke", *quick).stdout
    )
    table = call("report", "language", "--format", "md").stdout
    assert f"{PYTHON} {SMOKE.digest}, 512 tokens, rows of 32, 300,000 bytes" in table
    assert f"| NextLat (d=1), paper |{f' {DASH} |' * 6} 10.83 | 18.39 | 19.77 | 58.79 |" in table
    assert re.search(r"\| NextLat \(d=1\) \| 1 \| \d+\.\d\d \[", table)
    assert "<code>" in call("sample", "language", "--scale", "smoke", "-n", "3").stdout


def test_validation_prompts_are_known_too() -> None:
    task = Language(max_bytes=400_000, vocab_size=512, length=32, heldout=0.2)
    rows = whole(task, "validation")
    right = rows.tokens[rows.position[:, -1] == 31]
    assert task.check(right[:, :16], right[:, 16:]).all()
    prompts = task.prompts("validation", 0, 40)
    own = {bytes(row): n for row, n in zip(rows.tokens[:, :16], rows.document[:, 0], strict=True)}
    assert task.clusters(prompts).tolist() == [own[bytes(row)] for row in prompts]
