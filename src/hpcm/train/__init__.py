"""Training: data, start, loss and the loop; needs nothing beyond the package itself."""
