"""What computes the networks: torch (any model and device) or ONNX Runtime (exact models on the CPU, without torch)."""
