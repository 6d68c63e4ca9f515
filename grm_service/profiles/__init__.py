"""Profiles and principle sets: the YAML files that describe a judge, loaded and validated."""
