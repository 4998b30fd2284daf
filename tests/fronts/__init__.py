"""dockreg behind the reverse proxies of ``etc/``, as operators put them before it."""
