"""Who may do what: passwords, accounts, grants."""
