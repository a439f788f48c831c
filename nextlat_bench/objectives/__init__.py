"""Objectives: what a decoder is trained to predict, one objective a file."""
