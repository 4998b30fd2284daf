"""What is known: repositories, manifests, tags, uploads, users and grants."""
