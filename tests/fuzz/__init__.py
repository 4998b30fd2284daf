"""Random requests against the web layer, and random histories against a model; all in one process."""
