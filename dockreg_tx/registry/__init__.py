"""What happens: one module for each verb of the registry."""
