"""The networks: the coding loop, for numpy and torch alike, and layers, transforms, rate and exact forms in torch."""
