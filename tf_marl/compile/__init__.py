"""Getting TensorFlow to compile what gains by it: functions, shards of a batch, and programs for other machines."""
