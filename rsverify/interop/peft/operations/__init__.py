"""PEFT's operations on whole models: redistribution, hot swap, conversion, names, modes; each held to what it promises.

A check is a function of no arguments that raises `Wrong`. It has a sound case beside the one that is known to break, where there
is one, so that it is seen to pass and to fail. Its target is `peft:METHOD@operations`.
"""

from rsverify.interop.peft.operations import combine, convert, dora, hotswap, inits, methods, modes, names, scales

SUBJECTS = (combine, convert, dora, hotswap, inits, methods, modes, names, scales)
"""The files whose import enters their checks into `ownchecks`."""
