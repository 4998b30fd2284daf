"""Tests of the benchmark itself: what it computes, what it writes, and that wrong answers end it."""
