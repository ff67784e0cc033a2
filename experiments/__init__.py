"""Experiment binaries: one per study, and benchmarks."""
