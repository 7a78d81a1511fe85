"""Figures of a model on text, and settings of a model that are chosen on validation text."""
