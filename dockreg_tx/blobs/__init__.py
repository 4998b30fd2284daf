"""Where bytes live: content by digest, and uploads on their way to it."""
