"""Profiles: the YAML files that describe a judge, loaded and checked."""
