"""The dockreg command, one module for each noun."""
