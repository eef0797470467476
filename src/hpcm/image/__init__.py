"""What Pillow is for: reading pictures, what is kept of them, and writing them."""
