"""Picture <-> bytes."""
