"""Task generators and their worlds; each is usable on its own, without torch."""

if __name__ != "nextlat_bench.tasks":  # a second copy of every class would break isinstance
    raise ImportError("import nextlat_bench.tasks, not tasks: `pip install -e .` maps the folder")
