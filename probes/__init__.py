"""Probes: what a subject knows of the world behind its data, one probe a file."""

if __name__ != "nextlat_bench.probes":  # a second copy of every class would break isinstance
    raise ImportError("import nextlat_bench.probes, not probes: `pip install -e .` maps the folder")
