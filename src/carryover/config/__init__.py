"""``params.yaml``: one frozen dataclass a section, read strictly; no default in code."""
