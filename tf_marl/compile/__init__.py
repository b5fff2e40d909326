"""Tools to compile TensorFlow functions: without AutoGraph, in shards of a batch, and into files for other machines."""
