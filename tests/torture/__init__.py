"""Attacks on a real service and on real trainings, one for each promise of README.md."""
