"""The rules of the OCI distribution spec: pure functions over frozen values, without any I/O."""
