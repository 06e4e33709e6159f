"""Pretraining of source encoders inside the pipeline."""
