"""StarCraft II itself: where it is installed, and games in processes of their own. Nothing here imports TensorFlow."""
