"""Recipes that train in a blink."""

TINY = {"batch": 16, "latent": 8, "width": 8}  # of dcgan and ganomaly
TINY_FLAGS = ("--size", "16", "--batch", "16", "--set", "width=8", "--set", "latent=8")
VECTORS = {"batch": 16, "latent": 4, "hidden": [8], "units": [8], "output": "linear", "rounds": 2}  # gan on features
