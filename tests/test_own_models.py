"""What people's own models return, and what they are told."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from real_runs import added, here
from torch import nn

from nextlat_bench.adapters import CallableModel, HuggingFace, ids_by_text, load_model
from nextlat_bench.presets import taxi as preset
from nextlat_bench.report.records import read
from nextlat_bench.tasks._core import Task
from nextlat_bench.tasks.a5 import A5

TASK: Task = preset.run("gpt", "smoke", 0).task
V = len(TASK.vocab)
TABLE = np.random.default_rng(0).normal(size=(V, V))
PAD = TASK.vocab.pad


def logits(tokens: Any) -> Any:
    return TABLE[np.asarray(tokens)]


def test_logits_may_stand_in_an_output() -> None:
    tokens = TASK.sample("train", 0, 2).tokens
    plain, held = (
        CallableModel(logits, TASK),
        CallableModel(lambda t: SimpleNamespace(logits=logits(t)), TASK),
    )
    assert np.array_equal(plain.log_probs(tokens), held.log_probs(tokens))
    with pytest.raises(ValueError, match="a tuple was returned; return the logits alone"):
        CallableModel(lambda t: (logits(t), None), TASK)


def test_of_padding_anything_may_be_said() -> None:
    def some(tokens: Any, at: int) -> Any:
        return np.where((tokens == at)[..., None], np.nan, logits(tokens))

    tokens = TASK.sample("train", 0, 8).tokens
    assert (tokens == PAD).any()
    found = CallableModel(lambda t: some(t, PAD), TASK).log_probs(tokens)
    assert np.isfinite(found).all()
    used = tokens != PAD
    assert np.array_equal(found[used], CallableModel(logits, TASK).log_probs(tokens)[used])
    first = int(tokens[0, 0])
    with pytest.raises(ValueError, match=f"no probabilities, at 1 of .* first after token {first}"):
        CallableModel(lambda t: some(t, first), TASK)


def test_what_reads_other_rows_is_refused() -> None:
    with pytest.raises(ValueError, match="says something else of a row beside another one"):
        CallableModel(lambda t: logits(t) - 0.9 * logits(t).mean(axis=0), TASK)


def test_a_larger_vocabulary_is_told_how_to_fit() -> None:
    with pytest.raises(ValueError, match=rf"return \[\.\.\., :{V}\]"):
        CallableModel(lambda t: np.zeros((*t.shape, V + 9)), TASK)


def test_a_state_that_stays_is_suspected() -> None:
    network, kept = nn.GRU(V, V, batch_first=True), [torch.zeros(1, 1, V)]

    def stateful(tokens: Any) -> Any:
        out, kept[0] = network(torch.eye(V)[torch.as_tensor(tokens)], kept[0])
        return 50 * out

    with pytest.raises(ValueError, match="or does it keep a state from one call to the next"):
        CallableModel(stateful, TASK)


SUBJECTS = """
import numpy as np
from nextlat_bench.adapters import CallableModel
from nextlat_bench.presets import taxi

task = taxi.run("gpt", "smoke", 0).task
table = np.random.default_rng(0).normal(size=(len(task.vocab), 8))


class WithStates(CallableModel):
    def hidden(self, tokens, reading="hidden"):
        return table[tokens]

    def read_out(self, hidden):
        return hidden @ table.T

    def predict_hidden(self, hidden, tokens):
        return None


model = WithStates(lambda tokens: table[tokens] @ table.T, task)
"""


def test_a_subject_of_ones_own_is_probed_by_name(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(SUBJECTS)
    with added(tmp_path):
        asked = ["probe", "--model", "mine:model", "--task", "taxi", "--scale", "smoke"]
        done = here(*asked, "rank", "next_token", "--out", str(tmp_path / "out"))
        assert done.returncode == 0, done.stderr
        refused = here("probe", "--model", "mine:WithStates", "--task", "taxi", cwd=tmp_path)
        assert "is no function but a class: name one that is made of it" in refused.stderr
        with pytest.raises(ValueError, match=f"has a vocabulary of {V}: a5 has 60"):
            load_model("mine:model", A5())
    [folder] = (tmp_path / "out").iterdir()
    rows = {r.metric: r for r in read(folder / "records.jsonl")}
    assert 5 < rows["effective_rank"].value <= 8
    assert rows["effective_rank"].objective_parameters["model"] == "mine:model"


def test_a_tokenizer_that_knows_some_of_the_tokens(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models

    def asked(words: list[str]) -> Any:
        known = {word: 100 + i for i, word in enumerate(words)}
        Tokenizer(models.WordLevel(known, unk_token="?")).save(str(tmp_path / "tokenizer.json"))
        return ids_by_text(tmp_path, TASK)

    every = list(TASK.vocab.tokens)
    assert ids_by_text(tmp_path, TASK) is None
    assert asked(every).tolist() == list(range(100, 100 + V))
    assert asked(["the", "of"]) is None
    with pytest.raises(ValueError, match=f"knows {V - 1} of {V} tokens of taxi, not 'pad'"):
        asked([word for word in every if word != "pad"])


def test_a_module_in_evaluation_mode_stays_in_it() -> None:
    """Whole, or a part of one that is trained."""
    module = nn.Sequential(nn.Embedding(V, V), nn.Dropout())
    for training, dropping in ((False, False), (True, False), (False, True)):
        module.training, module[1].training = training, dropping
        CallableModel(module, TASK)
        assert (module.training, module[1].training) == (training, dropping)


def tiny_gpt2(vocab: int = V, context: int = 64) -> Any:
    torch.manual_seed(0)
    none = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None}
    sizes = {"n_embd": 32, "n_layer": 1, "n_head": 2, "initializer_range": 0.3}
    config = transformers.GPT2Config(vocab_size=vocab, n_positions=context, **sizes, **none)
    return transformers.GPT2LMHeadModel(config)


def test_a_model_saved_in_half_precision_is_read_in_single(tmp_path: Path) -> None:
    tiny_gpt2().bfloat16().save_pretrained(tmp_path)
    found = HuggingFace.load(tmp_path, TASK)
    assert {weight.dtype for weight in found.model.parameters()} == {torch.float32}
    rounded = tiny_gpt2().bfloat16().float()
    tokens = TASK.sample("test", 0, 3).tokens
    expected = HuggingFace(rounded, TASK).log_probs(tokens)
    assert np.allclose(found.log_probs(tokens), expected, atol=1e-5)


def test_a_context_holds_the_longest_that_a_probe_reads() -> None:
    """A5's words have 12 elements in training and 36 in probes."""
    HuggingFace(tiny_gpt2(60, 36), A5())
    with pytest.raises(ValueError, match="has a context of 35 tokens: a5 needs 36"):
        HuggingFace(tiny_gpt2(60, 35), A5())


def test_ids_are_those_of_fresh_weights_too_and_none_is_negative() -> None:
    ids = np.arange(V) + 3
    assert np.array_equal(HuggingFace(tiny_gpt2(V + 3), TASK, ids).untrained().ids, ids)
    with pytest.raises(ValueError, match=f"has a vocabulary of {V}"):
        HuggingFace(tiny_gpt2(), TASK, np.arange(V) - 1)


def test_a_function_is_given_numbers_of_64_bits() -> None:
    seen = set()

    def asked(tokens: np.ndarray) -> Any:
        seen.add(tokens.dtype)
        return logits(tokens)

    CallableModel(asked, TASK).log_probs(TASK.sample("test", 0, 2).tokens.astype(np.int32))
    assert seen == {np.dtype(np.int64)}
