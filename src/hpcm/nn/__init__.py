"""The networks in torch: layers, transforms, the coding loop, rate and exact forms, and the engine made of them."""
