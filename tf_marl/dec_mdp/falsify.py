"""The search for counterexamples: at random, then uphill, then down to a small file.

Random instances of several sizes are tried; where a reading stands, its tightest instances are the starts of a
gradient ascent (Adam) on the violation, through the exact solver. A counterexample is made as plain as it can be while
it remains one, and kept as JSON that a person can read: probabilities, rewards, policies.
"""

import functools
import json
import pathlib
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from tf_marl.compile import graph
from tf_marl.dec_mdp import generators, model
from tf_marl.dec_mdp.generators import Instances, Point, Structure
from tf_marl.dec_mdp.model import DecMDP
from tf_marl.dec_mdp.statements import READINGS, TOLERANCE, Case, Claim, Reading

_CLEAR = 1e-3  # a violation that needs no larger Dec-MDP to show
_STARTS = 32  # of an ascent, side by side
_BATCH = 2**21  # numbers in the largest table of a batch, about
_SMALLEST_PROBABILITY = 0.01  # of an action in a file: policies have full support, so that ratios are defined


class Space(NamedTuple):
    """Where to look: Dec-MDPs of one size."""

    agents: int
    local_states: int
    actions: int
    whole: bool  # every agent sees the whole state
    branches: int | None  # successors of a joint action; None: all states
    share: float  # of all random instances


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
CLIMBED = (Space(2, 2, 2, False, None, 0.5), Space(5, 3, 2, True, None, 0.5))


class Witness(NamedTuple):
    """A counterexample: one instance as probabilities."""

    reading: Reading
    tables: dict[str, np.ndarray]  # probability, successor, reward, start, gamma, observation, old, new


class Trial:
    """What was found of one reading."""

    def __init__(self, reading: Reading):
        self.reading = reading
        self.tried = 0  # random instances
        self.climbed = 0  # instances evaluated on the way up
        self.slack = np.inf  # the smallest
        self.used = np.nan  # the most of the bound
        self.identity = True  # says that something is 0
        self.violated = 0
        self.meeting_condition = 0
        self.violated_in_condition = 0
        self.witness: Witness | None = None
        self._worst = -TOLERANCE

    def add(self, case: Case, claim: Claim, climbing: bool = False) -> None:
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
        if slack[worst] < self._worst and self._worst > -_CLEAR:
            self._worst = float(slack[worst])
            instances = Instances(case.mdp, case.old_policy, case.new_policy)
            self.witness = Witness(self.reading, _tables(instances, worst))

    @property
    def verdict(self) -> str:
        """`held`, `holds only if ...` or `violated`, as far as was tried."""
        if not self.violated:
            return "held"
        if self.reading.condition and self.meeting_condition and not self.violated_in_condition:
            return f"holds only if {self.reading.condition.text}"
        return "violated"


def search(num_instances: int, num_steps: int, seed: int, progress: Callable[[str], None]) -> list[Trial]:
    """Tries every reading.

    Args:
        num_instances: random ones, at least, of each reading.
        num_steps: of the ascent in each of the two spaces climbed in, from 32 starts at once. Identities, whose
            violations could be nothing but rounding, and what random instances clearly refuted are not climbed.
        seed: of everything.
        progress: is told what is being done.
    """
    trials = [Trial(reading) for reading in READINGS]
    for space in SPACES:
        progress(f"random instances: {_name(space)}")
        for case in _cases(space, round(num_instances * space.share), seed):
            for trial in trials:
                trial.add(case, trial.reading.check(case))
    for space in CLIMBED if num_steps else ():
        for trial in trials:
            if trial.slack > -_CLEAR and not trial.identity:
                progress(f"climbing: {_name(space)}: {trial.reading.statement}, {trial.reading.name}")
                for case in climb(trial.reading, space, num_steps, seed):
                    trial.add(case, trial.reading.check(case), climbing=True)
    return trials


def climb(reading: Reading, space: Space, num_steps: int, seed: int) -> Iterator[Case]:
    """The instances on the way up from the tightest of random ones, every tenth step, and where it ends.

    It climbs (lhs - rhs) / (|lhs| + |rhs| + 0.001), which neither shrinks the instance nor blows it up.
    """
    rng = np.random.default_rng([seed, 1, space.agents])
    structure = _structure(rng, space)
    start = generators.points(rng, structure, space.actions, 16 * _STARTS)

    def excess(point: Point) -> tf.Tensor:
        lhs, rhs = reading.check(Case(generators.realise(structure, point)))
        relative = (lhs - rhs) / (tf.abs(lhs) + tf.abs(rhs) + 1e-3)
        return tf.reduce_max(tf.reshape(relative, [lhs.shape[0], -1]), axis=1)

    best = tf.math.top_k(excess(start), _STARTS).indices
    variables = [tf.Variable(tf.gather(leaf, best)) for leaf in start]
    optimizer = tf.keras.optimizers.legacy.Adam(0.05)
    optimizer._create_all_weights(variables)

    @graph.function
    @graph.converted
    def ascend(steps: tf.Tensor) -> None:
        for _ in tf.range(steps):
            with tf.GradientTape() as tape:
                loss = -tf.reduce_sum(excess(Point(*variables)))
            gradients = tape.gradient(loss, variables, unconnected_gradients="zero")
            gradients = [tf.where(tf.math.is_finite(gradient), gradient, 0.0) for gradient in gradients]
            optimizer.apply_gradients(zip(gradients, variables, strict=True))

    for _ in range(-(-num_steps // 10)):
        ascend(tf.constant(10))
        yield Case(generators.realise(structure, Point(*(tf.identity(leaf) for leaf in variables))))


def minimise(witness: Witness) -> Witness:
    """The plainest counterexample nearby that keeps at least a third of the violation.

    In turn: agents that need not change do not; rewards become 0, 1 or -1; distributions uniform or certain; discounts
    0, 0.5 or 0.9; what is left is rounded.
    """
    enough = _slack(witness) / 3.0
    for simpler in _simpler(witness.tables):
        tables = simpler(witness.tables)
        if all(np.array_equal(table, witness.tables[name]) for name, table in tables.items()):
            continue
        tried = witness._replace(tables=tables)
        if _slack(tried) <= enough:
            witness = tried
    return witness


def save(witness: Witness, folder: pathlib.Path) -> pathlib.Path:
    """As JSON, a file named after the statement and the reading."""
    reading, tables = witness
    words = re.sub(r"[^a-z0-9]+", "_", f"{reading.statement} {reading.name}".lower()).strip("_")
    path = folder / f"{words[:70].rstrip('_')}.json"
    record = {"statement": reading.statement, "reading": reading.name, "slack": float(f"{_slack(witness):.4g}")}
    record |= {name: table.tolist() for name, table in tables.items()}
    lines = (f" {json.dumps(name)}: {json.dumps(value)}" for name, value in record.items())
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n", "utf-8")
    return path


def load(path: pathlib.Path) -> Witness:
    """A witness that was saved.

    Raises:
        ValueError: the file is no witness, or of a reading that is not known any more.
    """
    try:
        record: dict[str, Any] = json.loads(path.read_text("utf-8"))
        name = record.pop("statement"), record.pop("reading")
        del record["slack"]
    except (KeyError, json.JSONDecodeError) as error:
        raise ValueError(f"{path}: is no witness ({type(error).__name__}: {error})") from None
    reading = next((reading for reading in READINGS if (reading.statement, reading.name) == name), None)
    if reading is None:
        raise ValueError(f"{path}: no reading of {name[0]} is called {name[1]!r}")
    return Witness(reading, {table: np.array(value) for table, value in record.items()})


def instances(tables: dict[str, np.ndarray]) -> Instances:
    """A witness's tables as a batch of one.

    Raises:
        ValueError: they are no Dec-MDP.
    """
    names = ("probability", "reward", "start", "gamma", "old", "new")
    batch = {name: tf.constant(tables[name][None], tf.float64) for name in names}
    old, new = (tf.math.log(batch.pop(name)) for name in ("old", "new"))
    mdp = DecMDP(**batch, successor=tables["successor"], observation=tables["observation"])
    return Instances(model.check(mdp), old, new)


def _slack(witness: Witness) -> float:
    return float(witness.reading.check(Case(instances(witness.tables))).slack[0])


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
        """Replaces a part of a table by what `value` makes of all of them."""

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
    for index in np.ndindex(*tables["reward"].shape):
        sign = np.sign(tables["reward"][index])
        yield from (put("reward", index, constant(worth)) for worth in (sign, 0.0))
    for name in ("start", "probability"):
        for index in np.ndindex(*tables[name].shape[:-1]):
            yield put(name, index, functools.partial(uniform, name=name, index=index))
            yield put(name, index, functools.partial(certain, name=name, index=index))
    yield from (functools.partial(_rounded, digits=digits) for digits in (4, 3, 2, 1))


def _rounded(tables: dict[str, np.ndarray], digits: int) -> dict[str, np.ndarray]:
    """The same to so many digits; the largest of each distribution makes up for it."""
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


def _name(space: Space) -> str:
    return f"{space.agents} agents, {space.local_states} local states, {space.actions} actions"


def _structure(rng: np.random.Generator, space: Space) -> Structure:
    return generators.structure(rng, space.agents, space.local_states, space.actions, space.whole, space.branches)


def _cases(space: Space, count: int, seed: int) -> Iterator[Case]:
    """Random instances, in batches that memory bears; each batch has successors of its own."""
    rng = np.random.default_rng([seed, *(int(entry or 0) for entry in space[:5])])
    states = space.local_states if space.whole else space.local_states**space.agents
    size = states * space.actions**space.agents * max(space.branches or states, space.agents)
    batch = max(min(_BATCH // size, count), 1)
    for _ in range(-(-count // batch)):
        structure = _structure(rng, space)
        yield Case(generators.realise(structure, generators.points(rng, structure, space.actions, batch)))
