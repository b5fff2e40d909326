"""What stands on whole training runs: sweeps of them and their tables, statistics, champions, comparisons."""
