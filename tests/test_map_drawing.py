"""The reconstructed map as a picture: colours, compass and proportions, read off the pixels."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from hand_maps import OVER, E, N, S, W, map_of, turns_of

from nextlat_bench.probes.map_reconstruction import MapReconstruction, draw, reconstruct

SAMPLED = MapReconstruction(num_trials=300, temperature=1.0)
RED, BLACK, GREY = (224, 32, 27), (0, 0, 0), (207, 207, 207)


def pixels_of(path, colour):
    """Rows and columns of the pixels of a colour, from the top left, without title and legend."""
    from matplotlib.image import imread

    image = np.round(255 * imread(path)[:, :, :3]).astype(int)
    margin = len(image) // 12
    return np.nonzero((image[margin:-margin] == colour).all(axis=2))


def test_the_picture(taxi, known, tmp_path):
    for name, red in (("oracle", False), ("wrong_map", True)):
        path = tmp_path / f"{name}.png"
        _, found = SAMPLED.reconstruction(known[name], taxi, np.random.default_rng(7))
        draw(found, taxi.map, path, title=name)
        assert (len(pixels_of(path, RED)[0]) > 1000) == red
        assert len(pixels_of(path, BLACK)[0]) > 1000
    nothing = reconstruct(taxi.map, np.array([0]), turns_of([OVER]))
    draw(nothing, taxi.map, path)
    assert len(pixels_of(path, RED)[0]) == len(pixels_of(path, BLACK)[0]) == 0
    assert len(pixels_of(path, GREY)[0]) > 1000


@pytest.mark.parametrize("way", [N, E, S, W])
def test_north_is_up_and_east_is_right(tmp_path, way):
    """A false edge from the centre of a square of streets: red on that side of it only."""
    east, north = {N: (0, 1), E: (1, 0), S: (0, -1), W: (-1, 0)}[way]
    square = map_of(
        [(-200, -200), (200, -200), (200, 200), (-200, 200), (0, 0), (180 * east, 180 * north)],
        {(0, E): 1, (1, N): 2, (2, W): 3, (3, S): 0},
    )
    path = tmp_path / "square.png"
    found = reconstruct(square, np.array([4]), turns_of([way]))
    assert found.false_edges.tolist() == [[4, way, 5]]
    draw(found, square, path)
    rows, columns = pixels_of(path, RED)
    street_rows, street_columns = pixels_of(path, GREY)
    half = np.ptp(street_columns) / 2
    down = (rows.mean() - street_rows.min()) / half - 1
    right = (columns.mean() - street_columns.min()) / half - 1
    assert [down, right] == pytest.approx([-0.45 * north, 0.45 * east], abs=0.03)


def test_a_degree_east_is_shorter_in_the_north(tmp_path):
    square = map_of([(0, 0), (400, 0), (400, 400)], {(0, E): 1, (1, N): 2})
    square = replace(square, latitude=square.latitude + 60)  # where it is half as long
    draw(reconstruct(square, np.array([0]), turns_of([OVER])), square, tmp_path / "tall.png")
    rows, columns = pixels_of(tmp_path / "tall.png", GREY)
    assert np.ptp(rows) / np.ptp(columns) == pytest.approx(2, rel=0.03)


def test_drawing_needs_no_display(tmp_path):
    code = (
        "import sys, numpy as np;"
        "from nextlat_bench.probes.map_reconstruction import draw, reconstruct;"
        "from nextlat_bench.tasks.taxi import Taxi;"
        "streets = Taxi(radius=250).map;"
        "found = reconstruct(streets, np.array([0]), np.array([[0]]));"
        "draw(found, streets, sys.argv[1]);"
        "print('matplotlib.pyplot' in sys.modules)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "map.png")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
    assert [path.name for path in tmp_path.iterdir()] == ["map.png"]  # and nothing half written


def test_the_temperature_is_the_probes(taxi, known) -> None:
    found = []
    for temperature in (1.0, 0.1):
        probe = MapReconstruction(num_trials=100, temperature=temperature)
        rows = probe.measure(known["noisy_state"], taxi, np.random.default_rng(0))
        found.append({row.metric: row.value for row in rows}["false_edges"])
    assert found[0] > found[1] == 0
