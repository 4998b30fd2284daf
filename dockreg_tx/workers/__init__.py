"""Several processes that serve one registry: a parent that binds and watches, workers that answer."""
