"""What `bench` and `faults` measure."""
