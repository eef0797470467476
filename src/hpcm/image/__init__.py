"""Pillow's world: what is kept of a picture, where pictures come from, and how they are written."""
