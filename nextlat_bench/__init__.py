"""nextlat-bench: did this sequence model learn the world behind its data?

Importing this package imports nothing else; take what you need from its modules:
``nextlat_bench.tasks`` (worlds), ``nextlat_bench.objectives``, ``nextlat_bench.train``,
``nextlat_bench.subject`` and ``nextlat_bench.probes``.
"""

__version__ = "0.1.0"
