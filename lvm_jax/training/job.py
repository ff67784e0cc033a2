"""A job of several processes: that all of them are asked for the same."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from lvm_jax.sweep import devices
from lvm_jax.training.identity import differences


def check_alike(ask: Callable[[], dict[str, Any]]) -> None:
    """Checks that the processes of a job are asked for the same; they wait for it.

    Args:
      ask: what, as JSON has it; called where there are several processes.

    Raises:
      ValueError: on all of them, if one is asked for something else.
    """
    if jax.process_count() == 1:
        return
    asked = ask()
    differing = differences(asked, devices.on_every_process(asked))
    is_other = multihost_utils.process_allgather(np.bool_(bool(differing)))
    if is_other.any():
        other = f"something else in process {is_other.argmax()}"
        raise ValueError(
            "expected all processes to be asked for what the first one is, got "
            f"{', '.join(differing) or other}"
        )
