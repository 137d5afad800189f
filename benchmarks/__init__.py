"""Benchmarks: one file for each hot path. Never timed inside tests; a claim names its command."""
