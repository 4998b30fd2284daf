"""What is spoken: HTTP in, HTTP out; no policy and no storage."""
