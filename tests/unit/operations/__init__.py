"""Tests of backlane.operations and of what stands next to it."""
