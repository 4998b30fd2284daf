"""Moving in and out: the trees, layouts and archives of other registries and tools."""
