"""Checkpoints against what disks and crashes do to them."""

import pytest
import tensorflow as tf

from tf_marl.training.checkpoints import Checkpoints


@pytest.fixture
def kept(tmp_path):
    """A number, checkpoints of it that were saved at 100, 200 and 300 when it was 1, 2 and 3, and their folder."""
    number = tf.Variable(0.0)
    checkpoints = Checkpoints(tmp_path / "kept", 3, number=number, other=tf.Variable(tf.range(1000)))
    for i in (1, 2, 3):
        number.assign(i)
        checkpoints.save(100 * i)
    number.assign(0.0)
    return number, checkpoints, tmp_path / "kept"


def files(folder, env_steps):
    return sorted((folder / f"{env_steps:012}").iterdir())


def flip_a_byte(folder):
    data, _ = files(folder, 300)
    content = bytearray(data.read_bytes())
    content[len(content) // 2] ^= 1
    data.write_bytes(content)


def cut_the_data(folder):
    data, _ = files(folder, 300)
    data.write_bytes(data.read_bytes()[:-10])


def cut_the_index(folder):
    _, index = files(folder, 300)
    index.write_bytes(index.read_bytes()[:20])


def lose_a_file(folder):
    files(folder, 300)[0].unlink()


def lose_all_files(folder):
    for path in files(folder, 300):
        path.unlink()


DAMAGES = [flip_a_byte, cut_the_data, cut_the_index, lose_a_file, lose_all_files]


def test_the_newest_comes_back(kept):
    number, checkpoints, _ = kept
    assert checkpoints.restore() == 300
    assert number == 3.0


def test_nothing_saved_is_nothing_restored(tmp_path):
    number = tf.Variable(7.0)
    assert Checkpoints(tmp_path / "none", 3, number=number).restore() is None
    assert number == 7.0
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_one_is_passed_over_and_told_of(kept, damage, caplog):
    number, checkpoints, folder = kept
    damage(folder)
    assert checkpoints.restore() == 200
    assert number == 2.0
    (warning,) = caplog.messages
    assert "300 env steps is damaged" in warning


def test_a_run_that_comes_by_again_replaces_the_damaged_one(kept):
    number, checkpoints, folder = kept
    flip_a_byte(folder)
    checkpoints.restore()
    number.assign(9.0)
    checkpoints.save(300)
    assert checkpoints.env_steps() == [100, 200, 300]
    assert checkpoints.restore() == 300
    assert number == 9.0


def test_what_is_later_than_the_one_saved_is_no_more(kept):
    """It was damaged, or the run would have gone on from there; it must not be taken for the newest."""
    number, checkpoints, folder = kept
    flip_a_byte(folder)
    checkpoints.restore()
    number.assign(8.0)
    checkpoints.save(250)
    assert checkpoints.env_steps() == [100, 200, 250]


def test_where_all_are_damaged_no_training_starts_over(kept):
    number, checkpoints, folder = kept
    for env_steps in (100, 200, 300):
        files(folder, env_steps)[0].write_bytes(b"")
    with pytest.raises(ValueError, match=r"every checkpoint in .*kept is damaged"):
        checkpoints.restore()
    assert number == 0.0


def test_what_has_another_name_is_left_alone(kept):
    _, checkpoints, folder = kept
    (folder / "000000000500_copy").mkdir()
    assert checkpoints.restore() == 300
    checkpoints.save(400)
    assert checkpoints.env_steps() == [200, 300, 400]
    assert (folder / "000000000500_copy").is_dir()


def test_the_last_few_are_kept(kept):
    _, checkpoints, _ = kept
    checkpoints.save(400)
    checkpoints.save(500)
    assert checkpoints.env_steps() == [300, 400, 500]


def test_a_crash_while_saving_leaves_nothing_to_mistake_for_a_checkpoint(kept):
    _, checkpoints, folder = kept
    (folder / "unfinished").mkdir()
    (folder / "unfinished" / "snapshot.index").write_bytes(b"half")
    assert checkpoints.restore() == 300
    checkpoints.save(400)
    assert {path.name for path in folder.iterdir()} == {f"{n:012}" for n in (200, 300, 400)}


def test_a_part_can_be_read_alone(kept):
    number, _, folder = kept
    part = Checkpoints(folder, 3, number=number)
    assert part.restore("number") == 300
    assert number == 3.0


def test_objects_of_another_shape_are_refused(kept):
    _, _, folder = kept
    with pytest.raises(ValueError, match="hape"):
        Checkpoints(folder, 3, number=tf.Variable([1.0, 2.0]), other=tf.Variable(tf.range(1000))).restore()


def test_objects_that_were_not_saved_are_refused(kept):
    _, _, folder = kept
    with pytest.raises(ValueError, match="lacks what"):
        Checkpoints(folder, 3, number=tf.Variable(1.0), another=tf.Variable(1.0)).restore()


def test_a_full_disk_costs_no_checkpoint(small_disk):
    number = tf.Variable(1.0)
    checkpoints = Checkpoints(small_disk / "kept", 3, number=number, ballast=tf.Variable(tf.zeros(60_000)))
    checkpoints.save(100)
    brim = small_disk / "brim"
    with pytest.raises(OSError, match="No space left"):
        brim.write_bytes(bytes(3 << 20))
    with pytest.raises(OSError, match=r"no checkpoint can be written to .*kept: .*[Nn]o space"):
        checkpoints.save(200)
    assert [path.name for path in (small_disk / "kept").iterdir()] == [f"{100:012}"]
    number.assign(0.0)
    assert checkpoints.restore() == 100
    assert number == 1.0
    brim.unlink()
    checkpoints.save(200)
    assert checkpoints.env_steps() == [100, 200]


def test_a_snapshot_of_another_run_is_not_taken_up(kept):
    number, _, folder = kept
    objects = {"number": number, "other": tf.Variable(tf.range(1000))}
    ours = Checkpoints(folder, 3, {"seed": 3}, **objects)
    assert ours.restore() == 300  # which is older than the word of whose it is
    ours.save(400)
    assert ours.restore() == 400
    with pytest.raises(ValueError, match="000000000400 is of a run with seed = 3, not 4"):
        Checkpoints(folder, 3, {"seed": 4}, **objects).restore()
    assert Checkpoints(folder, 3, {"seed": 4}, **objects).restore("number") == 400  # to play with, it may be anyone's
    (folder / "000000000400" / "run.json").write_text("{")
    assert ours.restore() == 300
