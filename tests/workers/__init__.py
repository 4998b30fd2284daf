"""Tests of the workers' parts that need no processes."""
