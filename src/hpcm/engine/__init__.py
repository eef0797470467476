"""What computes the networks: torch."""
