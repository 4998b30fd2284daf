"""Measures dockreg beside other registries in one run: ``python -m bench``; not part of the package."""
