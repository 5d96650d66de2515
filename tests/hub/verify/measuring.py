"""What a verification takes: each in a process of its own, forked after the imports."""

import multiprocessing
import resource
import time
from typing import NamedTuple

import torch

from e4srec_hf.hub.verify import verify


class Measured(NamedTuple):
    """The exit status of a verification, its seconds, its megabytes above the start, and its report."""

    status: int
    seconds: float
    megabytes: float
    report: str


def _resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def _run(folder, connection):
    torch.set_num_threads(1)  # the threads of the parent are not there after a fork, and would be waited for
    start, began = _resident(), time.perf_counter()
    verification = verify(folder)
    seconds = time.perf_counter() - began
    above = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - start
    connection.send(Measured(verification.exit_status, seconds, above / 1e6, str(verification)))


def measure(folder, most_seconds=60):
    """Verify a folder; after ``most_seconds`` it is given up."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_run, args=(folder, sender), daemon=True)
    process.start()
    sender.close()
    try:
        if receiver.poll(most_seconds):
            return receiver.recv()
        return Measured(-1, float(most_seconds), 0.0, "it did not end")
    finally:
        process.kill()
        process.join()
