"""Command lines with hostile values, a process that runs them, and what a good end is: see experiments/hostile_commands.py."""
