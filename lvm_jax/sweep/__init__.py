"""The compiled part: what is trained, one run, and all of them on their devices."""

from lvm_jax.sweep.engine import Chunk, Memory, Sweep
from lvm_jax.sweep.plan import Plan

__all__ = ["Chunk", "Memory", "Plan", "Sweep"]
