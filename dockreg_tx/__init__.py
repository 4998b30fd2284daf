"""A container registry on Twisted: streaming, storing, indexing and guarding images."""

__version__ = "0.1.0"
