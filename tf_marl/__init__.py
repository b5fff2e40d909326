"""tf_marl: decentralized PPO for cooperative multi-agent reinforcement learning in TensorFlow.

Importing this package prepares the process for TensorFlow, so import it before that: TF-Agents and TFP need Keras 2,
torch an LLVM of its own (it may be imported before or after), and TensorFlow's start-up notices would bury the first
line a user wants to read. Nothing heavy is imported here:

    environments    load("3m", num_envs=128), make, register: worlds to play in
    agents          ippo, mappo, jr_ppo, reinforce, coma, maddpg, iql, vdn, qmix: learners
    training        Trainer, Evaluator: the loop
    ops             returns, surrogates, total variation: the maths
    settings        read(["ippo.gin", "maps/3m.gin"]): settings from gin files
    export, tracking, experiments, paper, dec_mdp: what is done with all of it
"""

import contextlib
import logging
import os
import sys
import warnings

from tf_marl import quiet

__version__ = "0.1.0"

if sys.platform != "linux":
    raise ImportError(f"tf_marl runs on Linux, not on {sys.platform}: use a container, or WSL 2 on Windows")
if "tensorflow" in sys.modules and os.environ.get("TF_USE_LEGACY_KERAS") != "1":
    raise ImportError("import tf_marl before tensorflow (or set TF_USE_LEGACY_KERAS=1): TF-Agents and TFP need Keras 2")
os.environ["TF_USE_LEGACY_KERAS"] = "1"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # what matters is raised as an exception as well
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # TensorFlow's default on some processors; docs/performance.md
logging.getLogger("tensorflow").setLevel(logging.ERROR)
# TensorFlow's wheels hold this module by mistake (tensorflow/tensorflow#124205): with it, libraries that are loaded
# later are bound to TensorFlow's LLVM, and triton, which torch's optimisers load, aborts the process.
sys.modules["tensorflow.python.pywrap_dlopen_global_flags"] = None  # type: ignore[assignment]
# TF-Agents compares with `is ()`; autograph compiles that anew in every process.
warnings.filterwarnings("ignore", category=SyntaxWarning, message='"is(| not)" with ')
with contextlib.suppress(ImportError):
    from gym_notices import notices  # what gym says when it is imported, as TF-Agents does: that it is unmaintained

    notices.notices.clear()

sys.meta_path.insert(0, quiet.QuietTensorFlow())
sys.meta_path.append(quiet.TFAgentsHint())
