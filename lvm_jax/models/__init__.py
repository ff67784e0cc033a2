"""Models as pure functions of parameters and arrays; no training."""
