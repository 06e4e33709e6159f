"""Published claims, decided from rows: the originals' released results and ours."""
