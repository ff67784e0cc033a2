"""Experiment binaries: one per study, and benchmarks."""

import signal
import sys

# While `python -m` imports a binary, Ctrl-C ends it without a traceback.
if sys.argv[0] == "-m":
    signal.signal(signal.SIGINT, signal.SIG_DFL)
