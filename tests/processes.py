"""Functions in processes of their own, forked from one that has imported everything and done nothing else.

A new interpreter computes for ten seconds until torch, transformers and this package are imported; a forked one starts
at once and is as clean. The ones that they are forked from are forks of the test process, before its first test: the
"whole" one has imported this package; the "plain" one torch and what takes as long, nothing of this package and nothing
of Hugging Face, which reads its settings when it is imported.
"""

import gc
import importlib.util
import multiprocessing
import multiprocessing.connection
import os
import runpy
import socket
import sys
import tempfile
from multiprocessing import forkserver
from typing import NamedTuple

# Tiny models are slower with several threads, and several threads don't add in the same order every time.
os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"  # also of the processes that tests start

import torch

FORKS = multiprocessing.get_context("forkserver")
PLAIN = ("torchvision", "pandas", "pyarrow.parquet", "scipy.stats", "sklearn.metrics")
PACKAGES = ("dualvqa", "dualvqa_light", "modeling_dualvqa", "processing")
SERVERS = {}  # name -> how multiprocessing knows it


def begin_server(name, modules):
    """Forks this process: the fork is what multiprocessing forks processes from, in place of a new interpreter."""
    for module in modules:
        importlib.import_module(module)
    listener, address = socket.socket(socket.AF_UNIX), multiprocessing.connection.arbitrary_address("AF_UNIX")
    listener.bind(address)
    listener.listen()
    alive, kept_open = os.pipe()  # when all have closed the second, the server ends
    pid = os.fork()
    if pid == 0:
        try:
            os.close(kept_open)
            gc.collect()
            gc.freeze()  # every training looks through what isn't frozen
            gc.enable()
            sys.stdin, sys.stdout, sys.stderr = sys.__stdin__, sys.__stdout__, sys.__stderr__  # not those of pytest
            forkserver.main(listener.detach(), alive, preload=[])
        finally:
            os._exit(0)
    listener.close()
    os.close(alive)
    known = {"_forkserver_address": address, "_forkserver_alive_fd": kept_open, "_forkserver_pid": pid}
    SERVERS[name] = known


class Ended(NamedTuple):
    """What became of processes: the exit code of the first that failed or 0, and what they printed."""

    code: int
    output: str


def work(function, arguments, environment, output):
    for name in [name for name in os.environ if name.startswith("ACCELERATE_")]:  # of trainings before
        del os.environ[name]
    os.environ.update(environment)
    forkserver._forkserver.ensure_running = lambda: None  # there is one, and what a script forks comes from it, too
    with open(output, "ab") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    function(*arguments)
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def free_port():
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return probe.getsockname()[1]


def forked(function, *arguments, processes=1, environment=None, server="whole"):
    """Calls a function of a module in a process, or in several with gloo between them as a launcher starts them.

    Args:
        environment: variables of the processes besides those that they have from here.
        server: what the processes are forked from.
    """
    common = {"MASTER_ADDR": "localhost", "MASTER_PORT": str(free_port()), "WORLD_SIZE": str(processes)}
    with tempfile.NamedTemporaryFile() as output:
        running = []
        for rank in map(str, range(processes)):
            variables = {**common, "RANK": rank, "LOCAL_RANK": rank} if processes > 1 else {}
            variables = {**variables, **(environment or {})}
            running.append(begun(function, *arguments, environment=variables, output=output, server=server))
        for process in running:
            process.join()
        codes = [process.exitcode for process in running]
        return Ended(next((code for code in codes if code), 0), output.read().decode())


def begun(function, *arguments, output, environment=None, server="whole"):
    """A process that calls a function and prints to a file; nobody has waited for it."""
    vars(forkserver._forkserver).update(SERVERS.get(server, {}))  # a forked process knows where it was forked
    process = FORKS.Process(target=work, args=(function, arguments, environment or {}, output.name))
    process.start()
    return process


def run_code(code, *arguments, folder, environment, package=False):
    """Runs code in a folder as `python -c` does, in a process that has read no settings yet; gives what it printed.

    Args:
        environment: all variables of the process.
        package: whether this package can be imported there.
    """
    command = code, list(map(str, arguments)), str(folder), dict(environment), package
    ended = forked(as_command, *command, server="plain")
    assert ended.code == 0, ended.output
    return ended.output


def as_command(code, arguments, folder, environment, package):
    # The code of saved folders that the test process has loaded would be taken for that of this process.
    sys.path = [path for path in sys.path if not os.path.exists(os.path.join(path, "transformers_modules"))]
    if not package:
        sys.meta_path = [finder for finder in sys.meta_path if "editable" not in repr(finder).lower()]
        sys.path = [path for path in sys.path if not any(os.path.exists(os.path.join(path, name)) for name in PACKAGES)]
    assert not {*PACKAGES, "transformers", "huggingface_hub"} & set(sys.modules)
    assert [importlib.util.find_spec(name) is not None for name in PACKAGES] == [package] * len(PACKAGES)
    sys.argv = ["-c", *arguments]
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    exec(compile(code, "<code>", "exec"), {"__name__": "__main__"})


def run_script(path, *arguments):
    """Runs a script as its command line does, in a forked process; gives what it printed."""
    ended = forked(as_main, str(path), list(map(str, arguments)))
    assert ended.code == 0, ended.output
    return ended.output


def as_main_of_a_group(path, arguments):
    """The same as a shell starts it: what a terminal sends goes to it and its workers."""
    os.setsid()
    as_main(path, arguments)


def as_main(path, arguments):
    sys.argv = [path, *arguments]
    sys.path.insert(0, os.path.dirname(path))
    runpy.run_path(path, run_name="__main__")
