"""TensorFlow functions are compiled here: without AutoGraph, in shards, and into files for other machines."""
