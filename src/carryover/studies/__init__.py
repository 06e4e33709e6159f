"""The studies: flat recipes, one file each."""
