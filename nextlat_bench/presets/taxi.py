"""Taxi on a street map: the paper's Table 1 at three scales.

The paper walks 3 to 100 nodes, asks for paths under 50 turns and allows 100 new tokens; smaller
scales crop the map and keep these proportions.
"""

from nextlat_bench.presets._core import chosen, looking_ahead
from nextlat_bench.probes._core import Probe
from nextlat_bench.probes.compression import Compression
from nextlat_bench.probes.detours import Detours
from nextlat_bench.probes.distinction import Distinction
from nextlat_bench.probes.map_reconstruction import MapReconstruction
from nextlat_bench.probes.next_token import NextToken
from nextlat_bench.probes.rank import Rank
from nextlat_bench.probes.spectrum import Spectrum
from nextlat_bench.probes.state_probe import StateProbe
from nextlat_bench.probes.trajectories import Trajectories
from nextlat_bench.probes.transition import Transition
from nextlat_bench.run import DecoderConfig, Run, Scale, Training
from nextlat_bench.tasks.taxi import StreetMap, Taxi

__all__ = ["probes", "run"]


def run(
    objective: str = "nextlat",
    scale: Scale = "laptop",
    seed: int = 0,
    streets: StreetMap | str = "heliopolis",
) -> Run:
    """One cell of Table 1. `streets`: what StreetMap.load takes."""
    make = {"smoke": smoke, "laptop": laptop, "paper": paper}[scale]
    return make(objective, seed, streets)


def smoke(objective: str, seed: int, streets: StreetMap | str) -> Run:
    """A minute for everything: nothing is learnt, everything is run."""
    return Run(
        task=taxi(streets, num_nodes=70, max_nodes=16),
        objective=chosen(objective, {"nextlat": {"dynamics_width": 64}}),
        decoder=DecoderConfig(layers=2, heads=2, width=64, zero_init_residual=True),
        training=Training(
            steps=100,
            examples=128,
            row_length=36,
            micro_batches=2,
            optimizer="muon",
            learning_rate=3e-3,
            warmup_steps=10,
            decay_fraction=0.6,
            final_fraction=0.01,
        ),
        seed=seed,
        scale="smoke",
    )


def laptop(objective: str, seed: int, streets: StreetMap | str) -> Run:
    """Ten (GPT) to 17 (MTP) minutes of one core; most of the map is learnt.

    The paper looks 8 nodes ahead in walks of up to 100; 2 of 24 is as far.
    """
    return Run(
        task=taxi(streets, num_nodes=140, max_nodes=24),
        objective=chosen(objective, looking_ahead(2, dynamics_width=128)),
        decoder=DecoderConfig(layers=4, heads=4, width=128, zero_init_residual=True),
        training=Training(
            steps=1_400,
            examples=512,
            row_length=52,
            micro_batches=2,
            optimizer="muon",
            learning_rate=3e-3,
            warmup_steps=100,
            decay_fraction=0.6,
            final_fraction=0.01,
        ),
        seed=seed,
        scale="laptop",
    )


def paper(objective: str, seed: int, streets: StreetMap | str) -> Run:
    """The paper's sizes (Table 5 and Appendix F.1): about 1,250 walks fill 256 x 256 tokens."""
    settings = looking_ahead(8, latent_weight=1.0, kl_weight=0.1, dynamics_width=1536)
    return Run(
        task=taxi(streets, num_nodes=None, max_nodes=100),
        objective=chosen(objective, settings),
        decoder=DecoderConfig(layers=48, heads=8, width=384),
        training=Training(
            steps=400_000,
            examples=1_250,
            row_length=256,
            learning_rate=1e-4,
            weight_decay=0.01,
        ),
        seed=seed,
        scale="paper",
    )


def taxi(streets: StreetMap | str, num_nodes: int | None, max_nodes: int) -> Taxi:
    """The paper's proportions: prompts of half the longest walk, as many tokens as its nodes."""
    streets = streets if isinstance(streets, StreetMap) else StreetMap.load(streets)
    return Taxi(
        streets=streets,
        radius=None if num_nodes is None else radius_of(streets, num_nodes),
        max_nodes=max_nodes,
        max_path=max_nodes // 2,
        max_new=max_nodes,
    )


def radius_of(streets: StreetMap, num_nodes: int) -> float | None:
    """The radius, in steps of 50 m, that leaves at least `num_nodes` intersections; None: no crop.

    So a preset is as hard on a sparse map as on a dense one. Maps without coordinates stay whole.
    """
    if streets.longitude is None or streets.num_nodes <= num_nodes:
        return None
    radius = 150.0
    while True:
        radius += 50.0
        try:
            if streets.crop(radius).num_nodes >= num_nodes:
                return radius
        except ValueError:  # too small a circle to hold a map
            continue


def probes(scale: Scale) -> tuple[Probe, ...]:
    """What a run of this scale is measured by."""
    if scale == "smoke":
        return (
            NextToken(num_sequences=100),
            Trajectories(num_trials=100),
            Compression(num_states=20, num_continuations=5),
            Compression(num_states=20, num_continuations=5, protocol="released"),
            Distinction(num_pairs=20, num_continuations=5),
            Detours(num_trials=50, probabilities=(0.0, 0.75)),
            Rank(num_positions=2_048),
            Spectrum(num_positions=2_048),
            StateProbe(num_sequences=64),
            Transition(),
            MapReconstruction(num_trials=100),
        )
    return (
        NextToken(),
        Trajectories(num_trials=6_400 if scale == "paper" else 1_000),
        Compression(),
        Compression(protocol="released"),
        Distinction(),
        Detours(),
        Rank(num_positions=65_536 if scale == "paper" else 16_384),
        Spectrum(num_positions=65_536 if scale == "paper" else 16_384),
        StateProbe(),
        Transition(),
        MapReconstruction(),
    )
