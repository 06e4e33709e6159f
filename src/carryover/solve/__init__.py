"""Solvers for frozen features: tensors in, tensors out, many problems at once."""
