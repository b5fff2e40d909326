"""This module finds StarCraft II, SMAC's maps and smac, and says what to do about those that are missing."""

import hashlib
import json
import os
import pathlib
import re
import subprocess
import sys
from typing import NamedTuple

INSTALL = "make sc2"  # pysc2, smac's other requirements, and smac from its repository
SMAC_REPOSITORY = "https://github.com/oxwhirl/smac"
COPY_MAPS = f"copy smac/env/starcraft2/maps/SMAC_Maps of {SMAC_REPOSITORY} to"
# SHA-256 of the maps in that repository.
MAP_HASHES = {
    "10m_vs_11m": "774ad6f26136380dcdea5d29f257734a3ae30a903b2c2c27524bf8edb71c0170",
    "1c3s5z": "17628884bbd11a0c6b5f36129de145a1e8f335ccbcd81e05cf75ec1ee0703a35",
    "25m": "94106cd699579019b45c0a7acead6646ed6cfbf26eba4280f76af13681bfd5f2",
    "27m_vs_30m": "ce84853869c37ce6fdd8266e883a95ce6d10c5fdaa0bf1eb4dc4c149db313f18",
    "2c_vs_64zg": "0c303b28240a8fba8ed829a414876654300d13d195b23793c56701f0ba686fee",
    "2m_vs_1z": "c7dff4eb87b0f949f6da15500020ecdc4b03a61512017eea1dc21a263f411111",
    "2s3z": "928d21db081910096628ecc14627caa972940a7ccb99cc3448de28f7ec770a12",
    "2s_vs_1sc": "1936277d8a1cd490a11229b68892dd94582ef27e370f4babbb025f114a5d8eae",
    "3m": "d6e086e190a80fa473364497199ef4d6c0f6cd281e9f0dd9d64a8159f73a7d47",
    "3s5z": "20ce045f7442eba0010548cb26c03f80db93a4b5a4d94eae1d2486404774e088",
    "3s5z_vs_3s6z": "9265fe0a54ca05680ad4a9d67adadb3fa90544fca3f2aab7fe6681b3227fecf9",
    "3s_vs_3z": "273328b0a78a8b783c9cbf5c91efe583262a4d133b9a8818fe02f9ce9fbfd2a8",
    "3s_vs_4z": "ebb01d82bf7f57d5469c7de64d541e614e971c2007853a6f744e0f61e9b19014",
    "3s_vs_5z": "d63c713a3404b0574f10b686b0f4047d1fe670b5827119dbdf64dfcfc8ad55f8",
    "5m_vs_6m": "ca31d3f570e173b9ed2d8e681b700d2ac754abe62fdafc947432985bc0afb9d7",
    "6h_vs_8z": "2510f604d5a5e60afccf2b1547a6c31327bc307ae8a2083df2772fbe51f14bf1",
    "8m": "fe806ea90ddb919267eb0d3e2e91a00a07f759a1ab0ef33cb2422c4502d3476a",
    "8m_vs_9m": "15c9e65efefde407f8ae34a2bd9b70d46580db730accc15d3477fb281bb609d9",
    "MMM": "4d2c471baa1432b36934563f02ddd840b0602090a30a8b856c62deff4000bf19",
    "MMM2": "797df232260bc50678cc5b48438b606056b2dd799469c872a2635e98d4f5c1d6",
    "bane_vs_bane": "863932de531a1ddab2082b73ad29f8d684d599da97a09a81420682ee27410be4",
    "corridor": "5ca2caf7acda480ebfc8009bb95b855518349627a334639a78045d4c195ab28f",
    "so_many_baneling": "f35849b0a0ecb7310c900dd907857549ff86c159c9e3744a2a49bf8702ff64a2",
}
# Run by an interpreter, this prints as JSON whether its smac has the environment, whether it is SMAC3, and any error.
_ASK = """
import importlib.util, json, sys
told = {"env": False, "smac3": False, "error": ""}
try:
    if importlib.util.find_spec("smac"):
        told["smac3"] = importlib.util.find_spec("smac.facade") is not None
        told["env"] = importlib.util.find_spec("smac.env") is not None
    if told["env"]:
        sys.argv = sys.argv[:1]
        from smac.env import StarCraft2Env
except Exception as error:
    told["error"] = f"{type(error).__name__}: {error}".splitlines()[0]
print(json.dumps(told))
"""


class Missing(ValueError):
    """Says what is missing (`says`) and what to do about it (`fix`).

    Args:
        says: what is missing.
        fix: what to do about it.
        only_absent: whether nobody seems to have tried to install it here, so that it may be missing on purpose.
    """

    def __init__(self, says: str, fix: str, only_absent: bool = False):
        super().__init__(f"{says}; {fix}")
        self.says, self.fix, self.only_absent = says, fix, only_absent


class Game(NamedTuple):
    """Describes an installed game and one of SMAC's maps in it."""

    folder: pathlib.Path
    build: str  # the build that starts: the newest that is installed
    map_hash: str  # SHA-256 of the map


def python() -> str:
    """Returns the interpreter that runs smac: $SC2_PYTHON, or the one that runs this code."""
    return os.environ.get("SC2_PYTHON") or sys.executable


def variables() -> dict[str, str]:
    """Returns the environment variables that processes need to run smac, besides this process's own.

    The game's protocol needs an old protobuf. Beside TensorFlow's new one, it needs protobuf's slow implementation.
    """
    return {} if os.environ.get("SC2_PYTHON") else {"PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": "python"}


def check_smac() -> None:
    """Checks that the interpreter that is to run smac can import it.

    Raises:
        Missing: it cannot; the message says why and what to do.
    """
    where = f"{python()} " if os.environ.get("SC2_PYTHON") else ""
    fix = f"install smac there from {SMAC_REPOSITORY}" if where else INSTALL
    try:
        asked = subprocess.run(
            [python(), "-c", _ASK], capture_output=True, text=True, env=os.environ | variables(), timeout=120
        )
        told = json.loads(asked.stdout.splitlines()[-1])
    except (OSError, subprocess.TimeoutExpired, IndexError, ValueError) as error:
        raise Missing(f"SC2_PYTHON={python()} runs no Python ({error})", "name an interpreter that has smac") from None
    if told["error"]:
        raise Missing(f"{where}smac cannot be imported: {told['error']}", fix)
    if told["smac3"] and not told["env"]:
        says = f"{where}smac is SMAC3, another project of that name, not the game environment"
        raise Missing(says, f"uninstall it, then {fix}" if where else fix)
    if not told["env"]:
        raise Missing(f"{where}smac is not installed", fix, only_absent=not where)


def folder() -> pathlib.Path:
    """Returns the folder in which the game is looked for: $SC2PATH, or where pysc2 looks without it."""
    return pathlib.Path(os.environ.get("SC2PATH") or pathlib.Path.home() / "StarCraftII").expanduser()


def builds() -> list[str]:
    """Returns the numbers of the builds that are installed, oldest first.

    Raises:
        Missing: there is no game in the folder, or its newest build cannot be started.
    """
    where = folder()
    if not where.is_dir():
        told = "SC2PATH" in os.environ
        says = f"SC2PATH={where} is no folder" if told else f"no game in {where}, and SC2PATH is not set"
        raise Missing(says, "export SC2PATH=DIR, the game's folder", only_absent=not told)
    found = [re.fullmatch(r"Base(\d+)", path.name) for path in where.glob("Versions/Base*")]
    numbers = sorted((match[1] for match in found if match), key=int)
    if not numbers:
        raise Missing(f"SC2PATH={where} holds no Versions/Base*, so no game", "export SC2PATH=DIR, the game's folder")
    program = where / "Versions" / f"Base{numbers[-1]}" / "SC2_x64"
    if not os.access(program, os.X_OK):
        raise Missing(f"{program} is no program that can be started", "unpack the game again")
    return numbers


def map_file(map_name: str) -> pathlib.Path:
    """Returns the file in which pysc2 looks for one of SMAC's maps.

    Args:
        map_name: one of SMAC's maps.
    """
    return folder() / "Maps" / "SMAC_Maps" / f"{map_name}.SC2Map"


def map_hash(map_name: str) -> str:
    """Returns the SHA-256 hash of one of SMAC's maps, as it is installed.

    Args:
        map_name: one of SMAC's maps.
    Raises:
        Missing: the map is not there.
    """
    file = map_file(map_name)
    if not file.is_file():
        raise Missing(f"{file} is missing", f"{COPY_MAPS} {file.parent}")
    return hashlib.sha256(file.read_bytes()).hexdigest()


def check_map(map_name: str) -> str:
    """Checks that one of SMAC's maps is installed as SMAC has it, and returns its SHA-256 hash.

    Args:
        map_name: one of SMAC's maps.
    Raises:
        Missing: the map is not there, or it is another one.
    """
    found, file = map_hash(map_name), map_file(map_name)
    if found != MAP_HASHES[map_name]:
        raise Missing(f"{file} is not SMAC's (SHA-256 {found[:12]}...)", f"{COPY_MAPS} {file.parent}")
    return found


def find(map_name: str, any_map: bool = False) -> Game:
    """Finds the game that a run on one of SMAC's maps will play.

    Args:
        map_name: one of SMAC's maps.
        any_map: whether a map of that name will do that is not, byte for byte, SMAC's.
    Returns:
        The game and the map.
    Raises:
        Missing: the game, the map or smac is not installed; the message says what to do.
    """
    build = builds()[-1]
    found = map_hash(map_name) if any_map else check_map(map_name)
    check_smac()  # takes a second
    return Game(folder(), build, found)
