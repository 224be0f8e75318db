"""Measurements of `bench` and `faults`."""
