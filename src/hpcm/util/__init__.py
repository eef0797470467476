"""What every room may use: files that appear whole, the machine, metrics. It knows nothing of pictures or models."""
