"""Path-Star sequences as text, one at a time, in plain dictionaries: the tests' reference."""

import re

from hypothesis import strategies as st

from nextlat_bench.tasks.path_star import PathStar

VARIANTS = ("forward", "reversed", "teacherless")
PAPER = {(2, 10): 68, (5, 5): 69, (7, 7): 137}  # lengths of its sequences, with the end token


@st.composite
def tasks(draw, variants=VARIANTS, min_nodes=5):
    degree, length = draw(st.integers(1, 4)), draw(st.integers(2, 6))
    least = max(min_nodes, 1 + degree * (length - 1))  # with fewer, a split may hold no graph
    return PathStar(
        degree=degree,
        length=length,
        num_nodes=least + draw(st.integers(2, 300)),
        variant=draw(st.sampled_from(variants)),
        seed=draw(st.integers(0, 2**32 - 1)),
        heldout=0.2,
    )


def with_the_path(task, batch):
    """Whole sequences, the path written also where the input holds dummies."""
    tokens, first = batch.tokens.copy(), task.prompt_length
    tokens[:, first:] = batch.targets[:, first - 1 : -1]
    return tokens


def parse(text):
    """`a,b|.../start,goal=p0,...` -> edges in their order, start, goal, path."""
    graph, _, rest = text.partition("/")
    asked, _, path = rest.partition("=")
    edges = [tuple(map(int, edge.split(","))) for edge in graph.split("|")]
    start, goal = map(int, asked.split(","))
    return edges, start, goal, [int(node) for node in path.split(",") if node]


def encode(task, text):
    return task.vocab.encode(re.findall(r"\d+|[|/=$]|end|pad", text))


def arms_of(edges, start):
    """The arms, each as its nodes outwards from the centre."""
    after = {u: v for u, v in edges if u != start}
    arms = []
    for first in sorted(v for u, v in edges if u == start):
        arms.append([first])
        while arms[-1][-1] in after:
            arms[-1].append(after[arms[-1][-1]])
    return arms
