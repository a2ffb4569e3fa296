"""Calls in processes of their own, forked from one that has imported everything and done nothing else."""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["dualvqa.run.main"])


def alone(function, *arguments):
    """Calls a function of a module; gives what it gives, or raises what it raises."""
    with ProcessPoolExecutor(1, mp_context=FORKS) as pool:
        return pool.submit(function, *arguments).result()
