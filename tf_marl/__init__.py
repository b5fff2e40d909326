"""tf_marl: decentralized PPO for cooperative multi-agent reinforcement learning in TensorFlow.

Importing this package prepares the process for TensorFlow, so import it first: TF-Agents and TFP need Keras 2, and
TensorFlow's start-up notices would bury the first line a user wants to read.
"""

import logging
import os
import warnings

__version__ = "0.1.0"

os.environ["TF_USE_LEGACY_KERAS"] = "1"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("ABSL_MIN_LOG_LEVEL", "2")
logging.getLogger("tensorflow").setLevel(logging.ERROR)
# gym, which tf_agents imports and we do not use, announces its own end on import.
logging.getLogger("gym").setLevel(logging.ERROR)
warnings.filterwarnings("ignore", message=".*Gym has been unmaintained.*")
warnings.filterwarnings("ignore", category=DeprecationWarning, module="(gym|tensorflow_probability|tf_agents|tf_keras).*")
