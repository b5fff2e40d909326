"""Training collects experience, learns from it, evaluates the policy and saves checkpoints."""
