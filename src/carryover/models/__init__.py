"""Networks, and what they say about their own depth."""
