"""Count the page faults of taking and freeing 16 MiB of memory, 20 times.

Usage: page_faults.py [keep]
"""

import resource
import sys

from fsspill.ray.malloc import raise_trim_threshold


def take(nbytes: int) -> None:
    [bytearray(b"x") * 2**20 for _ in range(nbytes // 2**20)]


def main() -> None:
    if "keep" in sys.argv:
        print(raise_trim_threshold())
    take(16 * 2**20)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        take(16 * 2**20)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)


main()
