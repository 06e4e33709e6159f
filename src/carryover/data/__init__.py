"""Image data: where it comes from, the prepared form on disk, splits and transforms."""
