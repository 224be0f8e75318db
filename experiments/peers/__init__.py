"""Comparison with other libraries: workloads and workers. Workers of both sides run side by side and take turns."""
