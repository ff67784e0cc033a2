"""Experiment binaries: one per study, and benchmarks."""

import logging
import signal
import sys

# While `python -m` imports a binary, Ctrl-C ends it without a traceback, and matplotlib
# does not say where it keeps its cache.
if sys.argv[0] == "-m":
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
