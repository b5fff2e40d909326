"""This module searches for counterexamples to the paper's statements, simplifies them and saves them.

First it tries random instances of several sizes on every reading of every statement. If a reading survives, a gradient
ascent (Adam, through the exact solver) tries to raise its violation, from random instances and from those built to make
bounds tight, whichever came closest. A counterexample is then made as simple as possible while it remains one. Its file
is JSON that a person can read: probabilities, rewards, policies.
"""

import functools
import itertools
import json
import pathlib
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from tf_marl.compile import graph
from tf_marl.dec_mdp import generators, model
from tf_marl.dec_mdp.generators import Instances, Point, Structure
from tf_marl.dec_mdp.model import DecMDP
from tf_marl.dec_mdp.statements import READINGS, TOLERANCE, Case, Claim, Reading

CLEAR = 1e-5  # a violation of this size settles the case, so no larger Dec-MDP replaces its witness
_STARTS = 16  # most instances of each reading that the ascent moves at the same time
_START_SIZE = 2**14  # about how many numbers per joint action and agent these have together
_POOL = 256  # random instances, and as many built ones, from which the starts are chosen
_BATCH = 2**21  # about how many numbers the largest table of a batch holds
_SMALLEST_PROBABILITY = 0.01  # of an action in a file: policies have full support, so that ratios are defined


class Space(NamedTuple):
    """Describes the Dec-MDPs of one size, in which the search looks for counterexamples."""

    agents: int
    local_states: int
    actions: int
    whole: bool  # whether every agent sees the whole state
    branches: int | None  # successors of a joint action; None: all states
    share: float  # share of all random instances that are drawn from this space


# From small to large: the first that has a clear violation provides the witness.
SPACES = (
    Space(2, 1, 2, True, None, 0.10),
    Space(1, 3, 3, True, None, 0.10),
    Space(2, 2, 2, True, None, 0.10),
    Space(2, 2, 2, False, None, 0.22),
    Space(2, 2, 2, False, 1, 0.08),
    Space(2, 3, 3, False, 2, 0.05),
    Space(3, 3, 2, True, None, 0.10),
    Space(3, 2, 2, False, None, 0.15),
    Space(4, 2, 2, False, 2, 0.07),
    Space(5, 2, 2, False, None, 0.02),
    Space(5, 2, 2, True, None, 0.01),
    Space(5, 4, 3, False, 2, 0.0002),
)
# Each with rewards of states and actions, and with rewards of states alone.
CLIMBED = (
    Space(2, 2, 2, True, None, 0.0),
    Space(2, 4, 2, True, None, 0.0),
    Space(2, 2, 2, False, None, 0.0),
    Space(3, 2, 2, False, None, 0.0),
    Space(8, 2, 2, True, None, 0.0),
)


class Witness(NamedTuple):
    """Holds a counterexample: a reading, and one instance that violates it, as tables without the batch axis.

    The tables have the names and shapes of `DecMDP`, and `old` and `new` hold the agents' policies as probabilities,
    [N, O, A].
    """

    reading: Reading
    tables: dict[str, np.ndarray]  # probability, successor, reward, start, gamma, observation, old, new


class Trial:
    """Counts how often one reading was tried and violated, and keeps a counterexample."""

    def __init__(self, reading: Reading):
        self.reading = reading
        self.tried = 0  # random instances
        self.climbed = 0  # instances that the ascent has evaluated
        self.slack = np.inf  # the smallest rhs - lhs so far
        self.used = np.nan  # the largest lhs / rhs so far
        self.identity = True  # whether the reading claims that something is 0, as far as seen
        self.violated = 0  # instances
        self.meeting_condition = 0  # instances that meet the reading's condition
        self.violated_in_condition = 0  # instances that meet the condition and yet violate the claim
        self.witness: Witness | None = None
        self._worst = -TOLERANCE  # slack of the witness

    def add(self, case: Case, claim: Claim, climbing: bool = False) -> None:
        """Counts the instances of a case.

        The worst of them becomes the witness if it violates the claim more than the witness so far, and that one's
        violation is not clear yet (0.00001).

        Args:
            case: B instances.
            claim: what the reading says of them.
            climbing: whether they come from the ascent, not from random draws.
        """
        slack = claim.slack.numpy()
        # What is not a number is no evidence for a claim.
        wrong = ~(slack >= -TOLERANCE)
        if climbing:
            self.climbed += len(slack)
        else:
            self.tried += len(slack)
        self.slack = min(self.slack, float(slack.min()))
        self.used = float(np.fmax(self.used, np.fmax.reduce(claim.used.numpy())))
        self.identity &= bool(np.all(claim.rhs == 0) and np.all(claim.lhs >= 0))
        self.violated += int(wrong.sum())
        if self.reading.condition:
            holds = self.reading.condition.holds(case).numpy()
            self.meeting_condition += int(holds.sum())
            self.violated_in_condition += int((wrong & holds).sum())
        worst = int(slack.argmin())
        if slack[worst] < self._worst and self._worst > -CLEAR:
            self._worst = float(slack[worst])
            instances = Instances(case.mdp, case.old_policy, case.new_policy)
            self.witness = Witness(self.reading, _tables(instances, worst))

    @property
    def verdict(self) -> str:
        """Returns what the trials so far say: `held`, `holds only if ...` with the condition, or `violated`."""
        if not self.violated:
            return "held"
        if self.reading.condition and self.meeting_condition and not self.violated_in_condition:
            return f"holds only if {self.reading.condition.text}"
        return "violated"


def search(num_instances: int, num_steps: int, seed: int, progress: Callable[[str], None]) -> list[Trial]:
    """Looks for counterexamples to every reading, first at random and then by gradient ascent.

    A reading of a stratum (`Reading.stratum`) is tried only on instances of that kind, a quarter of all. The ascent
    leaves out identities, whose violations there could only be rounding errors, and readings that random instances have
    clearly refuted.

    Args:
        num_instances: least number of random instances on which each reading without a stratum is tried.
        num_steps: steps of the ascent in each space of `CLIMBED`, rounded up to a multiple of ten; 0 for no ascent.
        seed: seed of all random numbers.
        progress: is called with a line that says what the search does next.

    Returns:
        What was found, one trial for each of `READINGS`.
    """
    trials = [Trial(reading) for reading in READINGS]
    for space, rewards_states in itertools.product(SPACES, (False, True)):
        progress(f"random instances: {_name(space, rewards_states)}")
        for case in _cases(space, rewards_states, round(num_instances * space.share / 2), seed):
            for trial in trials:
                if trial.reading.covers(case):
                    trial.add(case, trial.reading.check(case))
    for space, rewards_states in itertools.product(CLIMBED, (False, True)) if num_steps else ():
        open_trials = [trial for trial in trials if trial.slack > -CLEAR and not trial.identity]
        readings = [trial.reading for trial in open_trials]
        for case in climb(readings, space, rewards_states, num_steps, seed, progress):
            for trial in open_trials:
                if trial.reading.covers(case):
                    trial.add(case, trial.reading.check(case), climbing=True)
    return trials


def climb(
    readings: Sequence[Reading],
    space: Space,
    rewards_states: bool,
    num_steps: int,
    seed: int,
    progress: Callable[[str], None] = lambda text: None,
) -> Iterator[Case]:
    """Raises the violations of some readings by gradient ascent with Adam, side by side.

    For each reading it starts at the instances that come closest to a violation, 16 or, with 8 agents, 4, of 256 random
    ones and 256 built by `generators.switches`. It maximises a relative violation, so that it gains nothing from making
    all numbers of an instance larger or smaller:

        (lhs - rhs) / (|lhs| + |rhs| + 0.000001)

    Args:
        readings: the claims to violate; those that do not cover the space's Dec-MDPs are left out.
        space: the size of the Dec-MDPs; all states are successors of every joint action.
        rewards_states: whether rewards depend on the state alone.
        num_steps: steps of the ascent, rounded up to a multiple of ten.
        seed: seed of the random instances.
        progress: is called with a line that says what the ascent does.

    Yields:
        The instances of all readings together, at the start and after every ten steps.
    """
    rng = np.random.default_rng([seed, 1, *(int(entry or 0) for entry in space[:4]), rewards_states])
    structure = _structure(rng, space, rewards_states)
    pools = [draw(rng, structure, space.actions, _POOL) for draw in (generators.points, generators.switches)]
    pool = Point(*(tf.concat(leaves, axis=0) for leaves in zip(*pools, strict=True)))
    all_starts = Case(generators.realise(structure, pool))
    readings = [reading for reading in readings if reading.covers(all_starts)]
    if not readings:
        return
    progress(f"climbing: {_name(space, rewards_states)}: {len(readings)} readings")
    states, joint_actions, _ = structure.successor.shape
    starts = min(_STARTS, max(_START_SIZE // (states * joint_actions * space.agents), 1))

    def excess(reading: Reading, case: Case) -> tf.Tensor:
        lhs, rhs = reading.check(case)
        relative = (lhs - rhs) / (tf.abs(lhs) + tf.abs(rhs) + 1e-6)
        return tf.reduce_max(tf.reshape(relative, [lhs.shape[0], -1]), axis=1)

    best = tf.concat([tf.math.top_k(excess(reading, all_starts), starts).indices for reading in readings], axis=0)
    variables = [tf.Variable(tf.gather(leaf, best)) for leaf in pool]
    optimizer = tf.keras.optimizers.legacy.Adam(0.05)
    optimizer._create_all_weights(variables)

    @graph.function
    @graph.converted
    def ascend(steps: tf.Tensor) -> None:
        for _ in tf.range(steps):
            with tf.GradientTape() as tape:
                case = Case(generators.realise(structure, Point(*variables)))
                own = [excess(reading, case)[i * starts : (i + 1) * starts] for i, reading in enumerate(readings)]
                loss = -tf.reduce_sum(tf.stack(own))
            gradients = tape.gradient(loss, variables, unconnected_gradients="zero")
            gradients = [tf.where(tf.math.is_finite(gradient), gradient, 0.0) for gradient in gradients]
            optimizer.apply_gradients(zip(gradients, variables, strict=True))

    for i in range(-(-num_steps // 10) + 1):
        if i:
            ascend(tf.constant(10))
        yield Case(generators.realise(structure, Point(*(tf.identity(leaf) for leaf in variables))))


def minimise(witness: Witness) -> Witness:
    """Simplifies a counterexample step by step, and keeps each step that leaves at least a third of the violation.

    The steps are, in this order: the discount becomes 0.9, 0.5 or 0; agents keep their old policy, altogether or at one
    local state, and their old policy becomes uniform; the rewards of a state or of a joint action become 1, -1 or 0;
    other distributions become uniform or put everything on one outcome; and all numbers are rounded, to 4 digits and
    then to fewer. The Dec-MDP stays in the reading's stratum.

    Args:
        witness: the counterexample.

    Returns:
        A simpler counterexample to the same reading.
    """
    enough = slack(witness) / 3.0
    for simpler in _simpler(witness.tables):
        tables = simpler(witness.tables)
        if all(np.array_equal(table, witness.tables[name]) for name, table in tables.items()):
            continue
        tried = witness._replace(tables=tables)
        if slack(tried) <= enough:
            witness = tried
    return witness


def save(witness: Witness, folder: pathlib.Path) -> pathlib.Path:
    """Writes a counterexample to a JSON file that is named after the statement and the reading.

    Args:
        witness: the counterexample.
        folder: an existing folder for the file.

    Returns:
        The file's path.
    """
    reading, tables = witness
    words = re.sub(r"[^a-z0-9]+", "_", " ".join(reading.key).lower()).strip("_")
    path = folder / f"{words}.json"
    names = zip(("statement", "reading", "stratum"), reading.key, strict=True)
    record = {**dict(names), "slack": float(f"{slack(witness):.4g}")}
    record |= {name: table.tolist() for name, table in tables.items()}
    lines = (f" {json.dumps(name)}: {json.dumps(value)}" for name, value in record.items())
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n", "utf-8")
    return path


def load(path: pathlib.Path) -> Witness:
    """Reads a counterexample that `save` has written.

    Args:
        path: the JSON file.

    Returns:
        The counterexample.

    Raises:
        ValueError: the file is not JSON, lacks an entry, or belongs to a reading that `READINGS` does not hold.
    """
    try:
        record: dict[str, Any] = json.loads(path.read_text("utf-8"))
        key = record.pop("statement"), record.pop("reading"), record.pop("stratum")
        del record["slack"]
    except (KeyError, json.JSONDecodeError) as error:
        raise ValueError(f"{path}: is no witness ({type(error).__name__}: {error})") from None
    reading = next((reading for reading in READINGS if reading.key == key), None)
    if reading is None:
        raise ValueError(f"{path}: no reading of {key[0]} is called {key[1]!r}, {key[2]!r}")
    return Witness(reading, {table: np.array(value) for table, value in record.items()})


def instances(tables: dict[str, np.ndarray]) -> Instances:
    """Turns the tables of a witness into a batch of one instance.

    Args:
        tables: arrays without a batch axis, as in `Witness`: probability [S, J, K], successor [S, J, K] int,
            reward [S, J], start [S], gamma [], observation [S, N] int, old and new probabilities [N, O, A].

    Returns:
        One Dec-MDP (B = 1) with the policies as logits, [1, N, O, A].

    Raises:
        ValueError: the tables do not describe a Dec-MDP.
    """
    names = ("probability", "reward", "start", "gamma", "old", "new")
    batch = {name: tf.constant(tables[name][None], tf.float64) for name in names}
    old, new = (tf.math.log(batch.pop(name)) for name in ("old", "new"))
    mdp = DecMDP(**batch, successor=tables["successor"], observation=tables["observation"])
    return Instances(model.check(mdp), old, new)


def slack(witness: Witness) -> float:
    """Computes the slack of a witness's reading on its instance: below 0 if it is a counterexample.

    Args:
        witness: the reading and the tables.

    Returns:
        The smallest rhs - lhs; infinite if the reading does not cover such Dec-MDPs.
    """
    case = Case(instances(witness.tables))
    return float(witness.reading.check(case).slack[0]) if witness.reading.covers(case) else np.inf


def _tables(batch: Instances, index: int) -> dict[str, np.ndarray]:
    mdp = batch.mdp
    tables = {name: getattr(mdp, name)[index].numpy() for name in ("probability", "reward", "start", "gamma")}
    tables |= {"successor": mdp.successor, "observation": mdp.observation}
    return tables | {
        "old": tf.nn.softmax(batch.old[index]).numpy(),
        "new": tf.nn.softmax(batch.new[index]).numpy(),
    }


Simplification = Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]


def _simpler(tables: dict[str, np.ndarray]) -> Iterator[Simplification]:
    def put(name: str, index: Any, value: Callable[[dict[str, np.ndarray]], Any]) -> Simplification:
        """Returns a step that replaces one part of a table by what `value` computes from all tables."""

        def simplification(tables: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
            changed = np.array(tables[name])
            changed[index] = value(tables)
            return tables | {name: changed}

        return simplification

    def old_policy(tables: dict[str, np.ndarray], index: Any) -> np.ndarray:
        return tables["old"][index]

    def certain(tables: dict[str, np.ndarray], name: str, index: Any) -> np.ndarray:
        row = tables[name][index]
        return np.eye(row.shape[-1])[row.argmax()]

    def uniform(tables: dict[str, np.ndarray], name: str, index: Any) -> np.ndarray:
        return np.full_like(tables[name][index], 1.0 / tables[name].shape[-1])

    def constant(number: float) -> Callable[[dict[str, np.ndarray]], float]:
        return lambda _: number

    yield from (put("gamma", (), constant(gamma)) for gamma in (0.9, 0.5, 0.0))
    for agent in range(len(tables["old"])):
        yield put("new", agent, functools.partial(old_policy, index=agent))
    for index in np.ndindex(*tables["old"].shape[:2]):
        yield put("new", index, functools.partial(old_policy, index=index))
        yield put("old", index, functools.partial(uniform, name="old", index=index))
    of_states, of_actions = np.ndindex(len(tables["reward"])), np.ndindex(*tables["reward"].shape)
    for index in itertools.chain(of_states, of_actions):
        sign = np.sign(tables["reward"][index].max())
        yield from (put("reward", index, constant(worth)) for worth in (sign, 0.0))
    for name in ("start", "probability"):
        for index in np.ndindex(*tables[name].shape[:-1]):
            yield put(name, index, functools.partial(uniform, name=name, index=index))
            yield put(name, index, functools.partial(certain, name=name, index=index))
    yield from (functools.partial(_rounded, digits=digits) for digits in (4, 3, 2, 1))


def _rounded(tables: dict[str, np.ndarray], digits: int) -> dict[str, np.ndarray]:
    """Rounds all numbers. The largest entry of each distribution changes so that the sum stays 1."""
    rounded = dict(tables)
    for name in ("reward", "gamma", "probability", "start", "old", "new"):
        table = np.round(tables[name], digits)
        if name == "gamma":
            table = np.minimum(table, 1.0 - 10.0**-digits)
        if name in ("old", "new"):
            table = np.maximum(table, _SMALLEST_PROBABILITY)
        if name not in ("reward", "gamma"):
            rest = table.copy()
            largest = table.argmax(axis=-1)[..., None]
            np.put_along_axis(rest, largest, 0.0, axis=-1)
            np.put_along_axis(table, largest, np.round(1.0 - rest.sum(axis=-1, keepdims=True), 12), axis=-1)
        rounded[name] = table + 0.0  # no -0.0
    return rounded


def _name(space: Space, rewards_states: bool) -> str:
    seen = "states that all see" if space.whole else "local states"
    rewards = "rewards of states" if rewards_states else "rewards of states and actions"
    return f"{space.agents} agents, {space.local_states} {seen}, {space.actions} actions, {rewards}"


def _structure(rng: np.random.Generator, space: Space, rewards_states: bool) -> Structure:
    agents, local_states, actions, whole, branches, _ = space
    return generators.structure(rng, agents, local_states, actions, whole, branches, rewards_states)


def _cases(space: Space, rewards_states: bool, count: int, seed: int) -> Iterator[Case]:
    """Draws at least `count` random instances, in batches that fit into memory. Each batch draws its own successors."""
    rng = np.random.default_rng([seed, *(int(entry or 0) for entry in space[:5]), rewards_states])
    states = space.local_states if space.whole else space.local_states**space.agents
    size = states * space.actions**space.agents * max(space.branches or states, space.agents)
    batch = max(min(_BATCH // size, count), 1)
    for _ in range(-(-count // batch)):
        structure = _structure(rng, space, rewards_states)
        yield Case(generators.realise(structure, generators.points(rng, structure, space.actions, batch)))
