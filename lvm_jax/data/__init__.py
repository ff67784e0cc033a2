"""True models and samplers, and the reader of the published release."""
