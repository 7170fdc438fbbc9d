"""Functions of cells for the tests of sweeps; imported by name in other processes."""

import os
import time


def draw(configuration, seed):
    from rsverify.statistics.streams import stream

    return {"values": stream(seed, "sweep", configuration["name"]).standard_normal(3).tolist()}


def logged(configuration, seed):
    """Leaves a line in a file before it works (cell, worker, driver), so that a second run of one cell is seen."""
    line = f"{configuration['number']} {os.getpid()} {os.getppid()}\n".encode()
    with open(configuration["log"], "ab", buffering=0) as log:
        log.write(line)
    time.sleep(configuration["seconds"])
    return configuration["number"] ** 2


def odd_ones_fail(configuration, seed):
    if configuration["number"] % 2:
        raise ArithmeticError(f"{configuration['number']} is odd")
    return configuration["number"]


def dies(configuration, seed):
    os._exit(9)


def not_a_number(configuration, seed):
    return float("nan")
