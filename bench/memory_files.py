"""What it takes to hand a table to another process in a memory file, against a bare memcpy.

Rounds are interleaved; the figure is the median of the ratios within a round.
"""

from __future__ import annotations

import argparse
import mmap
import os
import statistics
import time

import numpy as np
import pyarrow as pa

from flexhost.arrow.batches import arranged, size_of
from flexhost.workers import memory_files

MIB = 1 << 20


def copied(bytes_: np.ndarray) -> float:
    """Seconds to copy into a fresh memory file."""
    fd = os.memfd_create("bench")
    try:
        os.ftruncate(fd, len(bytes_))
        begun = time.perf_counter()
        with mmap.mmap(fd, len(bytes_)) as mapped:
            view = np.frombuffer(mapped, np.uint8)
            view[:] = bytes_
            del view
        return time.perf_counter() - begun
    finally:
        os.close(fd)


def handed_over(table: pa.Table) -> float:
    """Seconds to write a table into one, and to map it again."""
    begun = time.perf_counter()
    assert memory_files.mapped(memory_files.written(table)).num_rows == table.num_rows
    return time.perf_counter() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--mib", type=int, nargs="+", default=[1, 16, 256, 1024])
    options = parser.parse_args()
    print("| table | memcpy ms | written and mapped ms | ratio |\n| --- | --- | --- | --- |")
    for mib in options.mib:
        numbers = np.arange(mib * MIB // 16)
        table = arranged(pa.table({"a": numbers, "b": numbers * 0.5}))
        bytes_ = np.ones(size_of(table), np.uint8)
        pairs = [(handed_over(table), copied(bytes_)) for _ in range(options.rounds + 1)][1:]
        ours, bare = (statistics.median(column) * 1000 for column in zip(*pairs, strict=True))
        ratio = statistics.median(a / b for a, b in pairs)
        print(f"| {mib} MiB | {bare:.1f} | {ours:.1f} | {ratio:.2f} |")


if __name__ == "__main__":
    main()
