"""The container image and its compose files, under podman."""
