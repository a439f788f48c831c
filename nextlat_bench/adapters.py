"""Anybody's model as a subject: a causal LM of transformers, or any callable from tokens to logits.

Every probability is over the task's tokens, whatever else a model may say. `load_model` takes a
Hugging Face folder or a dotted name. transformers is imported only where one of its models is read.
"""

import copy
import importlib
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from scipy.special import log_softmax
from torch import Tensor, nn

from nextlat_bench import registry
from nextlat_bench.device import chosen_device
from nextlat_bench.files import digest_of
from nextlat_bench.sources import source_of
from nextlat_bench.subject import RereadingSession, Session, Subject, check_vocabulary
from nextlat_bench.tasks._core import FloatArray, IntArray, Task, check_tokens
from nextlat_bench.trained import to_numpy

__all__ = ["CallableModel", "HuggingFace", "check_subject", "load_model"]

BATCHED = 0.05  # in a probability: what rounding in bf16 may change in a larger batch
CACHES = ("cache", "past_key_values")  # what transformers calls it, the newer name first


class HuggingFace(Subject):
    """A causal language model of transformers, in float32.

    Its log-probabilities are renormalised over the task's tokens: the mass that it gives to others
    of its vocabulary is left out. Sessions go on from the library's own cache; a model that offers
    none reads the whole prefix again.

    ids: (V,) the model's id of each of the task's tokens; by default the same number.
    """

    kind = "hugging_face"

    def __init__(
        self, model: Any, task: Task, ids: IntArray | None = None, *, name: str = kind
    ) -> None:
        self.model, self.name, self.vocab_size = model, name, len(task.vocab)
        self.task, self.ids = task, np.arange(self.vocab_size) if ids is None else np.asarray(ids)
        self.facts = {"model": name, "ids": "as the task's" if ids is None else "given"}
        config = model.config.get_text_config()
        if self.ids.shape != (self.vocab_size,) or len(np.unique(self.ids)) < self.vocab_size:
            raise ValueError(f"ids: expected {self.vocab_size} different ones, a token of the task")
        if self.ids.min() < 0 or self.ids.max() >= config.vocab_size:
            raise ValueError(
                f"{name} has a vocabulary of {config.vocab_size}: {task.name} needs ids up to "
                f"{self.ids.max()}; choose a smaller task or a model with more tokens"
            )
        context = getattr(config, "max_position_embeddings", None)
        if context is not None and context < task.longest:
            raise ValueError(
                f"{name} has a context of {context} tokens: {task.name} needs {task.longest}; "
                "choose a smaller task or a model with a longer context"
            )
        accepted = inspect.signature(model.forward).parameters
        self.cache_name = next((cache for cache in CACHES if cache in accepted), None)
        check_subject(self, task)

    @classmethod
    def load(cls, path: str | Path, task: Task, device: str | None = None) -> "HuggingFace":
        """The model of a folder that `save_pretrained` wrote.

        Weights come from model*.safetensors alone, no code from the folder, nothing from a network.
        Where its tokenizer.json knows every token of the task by its text, these are the ids.
        """
        path = Path(path)
        model, digest = read_folder(path)
        ids = ids_by_text(path, task)
        subject = cls(model.to(chosen_device(device)), task, ids, name=path.resolve().name)
        subject.facts |= {"ids": "as the task's" if ids is None else "by text"}
        subject.facts |= {"weights_digest": digest}
        return subject

    @torch.inference_mode()
    def log_probs(self, tokens: IntArray) -> FloatArray:
        with evaluating(self.model):
            return self.of_task(self.model(self.to_ids(tokens), use_cache=False).logits)

    @torch.inference_mode()
    def read(self, tokens: IntArray, cache: Any = None) -> tuple[Any, FloatArray]:
        """(n, k) tokens after what `cache` holds -> the grown cache, and (n, V) log-probabilities
        of the next."""
        given = {} if cache is None else {str(self.cache_name): cache}
        with evaluating(self.model):
            out = self.model(self.to_ids(tokens), use_cache=True, **given)
        return getattr(out, self.cache_name or "", None), self.of_task(out.logits[:, -1])

    def start(self, prompts: IntArray) -> Session:
        cache, log_probs = self.read(prompts)
        if not hasattr(cache, "reorder_cache"):
            return RereadingSession(self, prompts, log_probs)
        return CachedSession(self, cache, log_probs)

    @torch.inference_mode()
    def hidden(self, tokens: IntArray, reading: str = "hidden") -> FloatArray:
        """(n, T) -> (n, T, D): the last hidden states; reading "embedding": of the tokens."""
        ids = self.to_ids(tokens)
        if reading == "embedding":
            return to_numpy(self.model.get_input_embeddings()(ids))
        if reading != "hidden":
            raise ValueError(f"reading = {reading!r}: expected hidden or embedding")
        with evaluating(self.model):
            return to_numpy(self.model.base_model(ids, use_cache=False).last_hidden_state)

    def predict_hidden(self, hidden: FloatArray, tokens: IntArray) -> FloatArray | None:
        """None: no such model has latent dynamics."""
        return None

    @torch.inference_mode()
    def read_out(self, hidden: FloatArray) -> FloatArray:
        """(n, D) -> (n, V): by the output head alone; what some models do to their logits after it
        (a scale, a soft cap) is left out."""
        h = torch.as_tensor(hidden, device=self.model.device)
        return self.of_task(self.model.get_output_embeddings()(h))

    def untrained(self) -> "HuggingFace":
        """The same architecture with fresh weights: what a probe reads from no learning."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            fresh = type(self.model)(self.model.config)
        return HuggingFace(fresh.to(self.model.device), self.task, self.ids, name=self.name)

    def of_task(self, logits: Tensor) -> FloatArray:
        """(..., all of its tokens) -> (..., V) log-probabilities."""
        return to_numpy(logits[..., self.ids].float().log_softmax(-1))

    def to_ids(self, tokens: IntArray) -> Tensor:
        check_tokens("tokens", tokens)
        return torch.as_tensor(self.ids[tokens], dtype=torch.long, device=self.model.device)


class CachedSession(Session):
    """n sequences, and the model's own cache of all that was read."""

    def __init__(self, subject: HuggingFace, cache: Any, log_probs: FloatArray) -> None:
        self.subject, self.cache, self.log_probs = subject, cache, log_probs

    def advance(self, tokens: IntArray) -> None:
        self.cache, self.log_probs = self.subject.read(tokens[:, None], self.cache)

    @torch.inference_mode()
    def select(self, rows: IntArray) -> "CachedSession":
        cache = copy.deepcopy(self.cache)  # some layers are written in place
        cache.reorder_cache(torch.as_tensor(rows, device=self.subject.model.device))
        return CachedSession(self.subject, cache, self.log_probs[rows])


class CallableModel(Subject):
    """Any callable from tokens (n, T) to logits (n, T, V) over the task's vocabulary.

    A torch module is given a tensor on its own device, and is in evaluation mode while it is asked;
    anything else is given a NumPy array of int64. Either may return either, or what holds them as
    `.logits`. They need not be normalised, and of padding alone they may be anything. Sessions read
    the whole prefix again.
    """

    kind = "callable"

    def __init__(self, function: Callable[[Any], Any], task: Task, *, name: str = kind) -> None:
        self.function, self.name, self.vocab_size = function, name, len(task.vocab)
        self.pad = task.vocab.pad
        self.facts: dict[str, Any] = {"model": name}
        check_subject(self, task)

    @classmethod
    def load(cls, dotted: str, task: Task) -> Subject:
        """`package.module:function`, also of the current folder; or a Subject of one's own, which
        is taken as it is. What its code says is part of the model's identity; weights that it loads
        from elsewhere are not."""
        name, _, path = dotted.partition(":")
        registry.expect_foreign(name)
        try:
            function: Any = importlib.import_module(name)
            for part in path.split("."):
                function = getattr(function, part)
        except (Exception, SystemExit) as error:
            raise ValueError(f"{dotted}: {what_happened(error)}") from error
        if isinstance(function, Subject):
            return as_given(function, dotted, task)
        if inspect.isclass(function) or not callable(function):
            is_class = "a class: name one that is made of it"
            kind = is_class if inspect.isclass(function) else type(function).__name__
            raise ValueError(f"{dotted} is no function but {kind}")
        subject = cls(function, task, name=dotted)
        subject.facts |= source_of(name)
        return subject

    def start(self, prompts: IntArray) -> Session:
        return RereadingSession(self, prompts)

    @torch.inference_mode()
    def log_probs(self, tokens: IntArray) -> FloatArray:
        check_tokens("tokens", tokens)
        given: Any = np.asarray(tokens, dtype=np.int64)
        if isinstance(self.function, nn.Module):
            weight = next(self.function.parameters(), torch.empty(0))
            given = torch.as_tensor(given, device=weight.device)
        try:
            with evaluating(self.function):
                out = self.function(given)
            out = getattr(out, "logits", out)
            if isinstance(out, tuple):
                raise TypeError("a tuple was returned; return the logits alone")
            logits = to_numpy(out) if isinstance(out, Tensor) else np.asarray(out)
            logits = logits.astype(np.float64, casting="same_kind", copy=False)
        except MemoryError:
            raise
        except (Exception, SystemExit) as error:
            raise ValueError(f"{self.name} could not be asked: {what_happened(error)}") from error
        expected = (*tokens.shape, self.vocab_size)
        if logits.shape != expected:
            said = f"{self.name} gave logits {logits.shape}: expected {expected}"
            if logits.shape[:-1] == expected[:-1] and logits.shape[-1] > self.vocab_size:
                said += f"; where the task's tokens come first, return [..., :{self.vocab_size}]"
            raise ValueError(said)
        wrong, read = ~np.isfinite(logits.max(axis=-1)), np.asarray(tokens)
        if (bad := wrong & (read != self.pad)).any():
            raise ValueError(
                f"{self.name} gave logits that are no probabilities, at {bad.sum()} of {bad.size} "
                f"positions, first after token {read[bad][0]}"
            )
        if wrong.any():
            logits = np.where(wrong[..., None], 0.0, logits)
        return np.asarray(log_softmax(logits, axis=-1))


def as_given(subject: Any, dotted: str, task: Task) -> Subject:
    """A Subject of one's own, with what identifies it."""
    check_subject(subject, task)
    subject.kind = CallableModel.kind
    subject.facts = {"model": dotted} | source_of(dotted.partition(":")[0])
    return subject  # type: ignore[no-any-return]


def what_happened(error: BaseException) -> str:
    """An error of somebody's own function in a line, with its place there."""
    said, where = " ".join(str(error).split())[:300], registry.blamed(error)
    return f"{type(error).__name__}: {said}{f' ({where})' if where else ''}"


def load_model(where: str, task: Task, device: str | None = None) -> Any:
    """The Subject, with `kind` and `facts`, of a Hugging Face folder or of a dotted name
    `package.module:function`, which may be a Subject itself."""
    if Path(where).is_dir():
        return HuggingFace.load(where, task, device)
    if ":" not in where:
        raise ValueError(f"--model {where}: no such folder, nor a name package.module:function")
    if device is not None:
        raise ValueError(f"--device {device}: {where} says itself where it computes")
    return CallableModel.load(where, task)


@contextmanager
def evaluating(model: Any) -> Iterator[None]:
    """A torch module without its dropout, for as long as it is asked; then as it was."""
    modules = model.modules() if isinstance(model, nn.Module) else ()
    training = [module for module in modules if module.training]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True


def check_subject(subject: Subject, task: Task) -> None:
    """A ValueError for a model that cannot be probed: with a vocabulary that is not the task's,
    with what are no log-probabilities, or one that looks ahead, at other rows, or at the length of
    what it is given."""
    check_vocabulary(subject, task)
    batch = task.sample("train", 0, 1)
    one = batch.tokens[:, : batch.lengths[0]]
    other = one.copy()
    other[:, -1] = (one[:, -1] + 1) % subject.vocab_size
    before, again, after = (subject.log_probs(tokens)[:, :-1] for tokens in (one, one, other))
    if not np.allclose(np.exp(before).sum(axis=-1), 1, atol=1e-3):
        raise ValueError(f"{subject.name} gives no log-probabilities: they do not sum to 1")
    if not np.allclose(before, again, atol=1e-4):
        raise ValueError(
            f"{subject.name} gives other logits for the same tokens: is dropout on (call .eval()), "
            "or does it keep a state from one call to the next?"
        )
    if not np.allclose(before, after, atol=1e-4):
        raise ValueError(f"{subject.name} reads ahead: a token changes what it says before it")
    some = max(1, one.shape[1] // 2)
    alone = subject.log_probs(one[:, :some])[:, :some]
    if not np.allclose(np.exp(before[:, :some]), np.exp(alone), atol=BATCHED):
        raise ValueError(f"{subject.name} says something else of a prefix alone")
    unlike = (one + 1) % subject.vocab_size
    beside = subject.log_probs(np.concatenate([unlike, one]))[1:, :-1]
    if not np.allclose(np.exp(before), np.exp(beside), atol=BATCHED):
        raise ValueError(f"{subject.name} says something else of a row beside another one")


def read_folder(path: Path) -> tuple[Any, str]:
    """A Hugging Face folder -> its causal LM in float32 and its weights' digest."""
    try:
        import transformers
    except ImportError:
        raise ValueError(
            "a Hugging Face model needs transformers: pip install 'nextlat-bench[hf]'"
        ) from None
    files = sorted(path.glob("model*.safetensors"))
    if not (path / "config.json").is_file() or not files:
        raise ValueError(
            f"{path} holds no model: expected config.json and model.safetensors; "
            "a run folder is probed without --model"
        )
    try:
        with quiet(transformers.logging):
            config = transformers.AutoConfig.from_pretrained(
                path, local_files_only=True, trust_remote_code=False
            )
            if type(config) not in transformers.MODEL_FOR_CAUSAL_LM_MAPPING:
                raise ValueError(f"{config.model_type} is no causal language model")
            config._attn_implementation = None  # else it may name code of the hub's
            # the weights are given, so that no other file is ever looked for
            weights: dict[str, Tensor] = {}
            for file in files:
                weights |= safetensors.torch.load_file(file)
            model, loaded = transformers.MODEL_FOR_CAUSAL_LM_MAPPING[type(config)].from_pretrained(
                None,
                config=config,
                state_dict=weights,
                use_safetensors=True,
                dtype=torch.float32,
                output_loading_info=True,
            )
    except Exception as error:  # of many kinds, all about what the folder holds
        raise ValueError(f"{path} cannot be read: {error}") from error
    if missing := sorted(loaded["missing_keys"]):
        raise ValueError(f"{path} lacks weights: {', '.join(missing[:3])}, ... ({len(missing)})")
    return model, digest_of(files)


def ids_by_text(path: Path, task: Task) -> IntArray | None:
    """(V,) the ids of the task's tokens by their text; None where the folder has no tokenizer.json
    or one that knows none of them. One that knows some is a ValueError."""
    file = path / "tokenizer.json"
    if not file.is_file():
        return None
    from tokenizers import Tokenizer

    try:
        known = Tokenizer.from_file(str(file)).get_vocab()
    except Exception as error:
        raise ValueError(f"{file} is damaged: {error}") from None
    found = [known.get(token, -1) for token in task.vocab.tokens]
    lacking = [token for token, i in zip(task.vocab.tokens, found, strict=True) if i < 0]
    if 0 < len(lacking) < len(found):
        raise ValueError(
            f"{file} knows {len(found) - len(lacking)} of {len(found)} tokens of {task.name}, not "
            f"{lacking[0]!r}: add what is missing, or take the file away if ids are the task's"
        )
    return None if lacking else np.array(found)


@contextmanager
def quiet(logging: Any) -> Iterator[None]:
    """Without the library's own progress bars and notes, which would tear ours."""
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
