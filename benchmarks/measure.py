"""What the benchmarks of speed share: timing in turn, and a description of the machine."""

import os
import platform
import time
from statistics import median

import torch
import transformers

SLOW = 2.0  # seconds; what takes longer is called in three rounds only
BURST = 0.25


def timed(call):
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def interleaved(cells, rounds, burst=BURST):
    """Calls every cell in turn, `rounds` times over, so that a busy neighbour slows all of them alike.

    Args:
        cells: name -> function without arguments. Each is called twice before anything is measured, and once more
            before each burst, for caches and for the threads of the cell before to settle.
        burst: seconds of short calls of one cell in a row.

    Returns:
        name -> list of seconds.
    """
    seconds = {name: [] for name in cells}
    expected = {name: min(timed(call), timed(call)) for name, call in cells.items()}
    for number in range(rounds):
        for name, call in cells.items():
            if expected[name] > SLOW:
                if number % max(1, rounds // 3) == 0:
                    seconds[name].append(timed(call))
                continue
            call()
            repeats = max(1, min(10, int(burst / expected[name])))
            seconds[name] += [timed(call) for _ in range(repeats)]
    return seconds


def spread(seconds):
    """Median over all cells of the middle half's width, as a share of the cell's median."""
    widths = []
    for found in seconds.values():
        ordered = sorted(found)
        quarter = len(ordered) // 4
        widths.append((ordered[-1 - quarter] - ordered[quarter]) / median(ordered))
    return median(widths)


def processor_name():
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return next(line.split(":", 1)[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def machine(gpu=False):
    """Processor, threads and versions in a line; the GPU too, where a benchmark uses one."""
    used = torch.cuda.get_device_name() if gpu and torch.cuda.is_available() else "no GPU used"
    return (
        f"{os.cpu_count()} cores ({processor_name()}, {torch.backends.cpu.get_cpu_capability()}), "
        f"{torch.get_num_threads()} threads, {used}; torch {torch.__version__}, "
        f"transformers {transformers.__version__}"
    )
