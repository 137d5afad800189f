"""Proofs of the registry's core: exhaustive search, simulation, and the mutants they must find."""
