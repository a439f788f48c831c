"""python -m nextlat_bench"""

from nextlat_bench.cli import main

main()
