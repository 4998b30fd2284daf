"""The endpoints under /v2/, one module for each noun."""
