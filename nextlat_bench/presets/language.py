"""Language at three scales: real text, the running Python's own or the paper's FineWeb-Edu.

The laptop reads Python's standard library and its documentation several times over.
"""

from typing import Any

from nextlat_bench.presets._core import chosen
from nextlat_bench.probes._core import Probe
from nextlat_bench.probes.lookahead import Lookahead
from nextlat_bench.probes.perplexity import Perplexity
from nextlat_bench.probes.rank import Rank
from nextlat_bench.probes.spectrum import Spectrum
from nextlat_bench.probes.teacher_forced import TeacherForced
from nextlat_bench.probes.transition import Transition
from nextlat_bench.run import DecoderConfig, Run, Scale, Training
from nextlat_bench.tasks.language import Language

__all__ = ["probes", "run"]


def run(objective: str = "nextlat", scale: Scale = "laptop", seed: int = 0) -> Run:
    """One row of the language table; `--set objective.horizon=2` for its other horizon."""
    return {"smoke": smoke, "laptop": laptop, "paper": paper}[scale](objective, seed)


def smoke(objective: str, seed: int) -> Run:
    """Seconds: nothing is learnt, everything is run."""
    return Run(
        task=Language(max_bytes=300_000, heldout=0.2, vocab_size=512, length=32),
        objective=chosen(objective, {}),
        decoder=DecoderConfig(layers=2, heads=2, width=64, zero_init_residual=True),
        training=Training(
            steps=60, examples=32, micro_batches=2, optimizer="muon", warmup_steps=10
        ),
        seed=seed,
        scale="smoke",
    )


def laptop(objective: str, seed: int) -> Run:
    """Eleven minutes of one core for GPT, 21 for MTP or NextLat at horizon 2. BST, with all pairs
    of a row hours, has as many of them as there are tokens."""
    settings = {"nextlat": {"dynamics_width": 256}, "bst": {"most_pairs": 2_048}}
    return Run(
        task=Language(length=128),
        objective=chosen(objective, settings),
        decoder=DecoderConfig(layers=4, heads=4, width=128, zero_init_residual=True),
        training=Training(
            steps=1_500,
            examples=32,
            micro_batches=2,
            optimizer="muon",
            learning_rate=1e-3,
            warmup_steps=100,
            decay_fraction=0.6,
            final_fraction=0.02,
        ),
        seed=seed,
        scale="laptop",
    )


def paper(objective: str, seed: int) -> Run:
    """The paper's sizes: 1.3 billion parameters, 100 billion tokens. Counted, never run here."""
    nextlat: dict[str, Any] = {"dynamics_width": 6528}
    return Run(
        task=Language(source="hf:HuggingFaceFW/fineweb-edu", vocab_size=50_257, length=1_024),
        objective=chosen(objective, {"nextlat": nextlat}),
        decoder=DecoderConfig(layers=22, heads=16, width=2_048),
        training=Training(
            steps=191_000,
            examples=512,
            learning_rate=4e-4,
            weight_decay=0.1,
            clip=1.0,
            warmup_steps=1_000,
            decay_fraction=0.2,
        ),
        seed=seed,
        scale="paper",
    )


def probes(scale: Scale) -> tuple[Probe, ...]:
    """What a run of this scale is measured by."""
    if scale == "smoke":
        return (
            Perplexity(),
            Lookahead(num_sequences=64, distances=(1, 2, 5), num_tokens=64, passes=2),
            TeacherForced(num_sequences=100),
            Rank(num_positions=1_024),
            Spectrum(num_positions=1_024),
            Transition(num_sequences=64, steps=2),
        )
    return (
        Perplexity(),
        Lookahead(),
        TeacherForced(num_sequences=256),
        Rank(num_positions=65_536 if scale == "paper" else 16_384),
        Spectrum(num_positions=65_536 if scale == "paper" else 16_384),
        Transition(),
    )
