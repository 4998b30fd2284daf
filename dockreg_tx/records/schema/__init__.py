"""Numbered SQL files, each one step of the schema; never changed once released."""
