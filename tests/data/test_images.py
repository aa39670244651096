import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from nextmove.contracts import seeded
from nextmove.data import Affine, DataError, DatasetWriter, Images, Loader, images
from nextmove.data.identity import held_out
from nextmove.data.images import _episode_ids, shrink

GOLDEN = Path(__file__).parents[1] / "golden"


def test_digits_are_split_by_the_protocol():
    found = images("digits")
    assert (len(found.train), len(found.test), found.levels, found.train.classes) == (1437, 360, 17, 10)
    from sklearn.datasets import load_digits

    first = np.random.default_rng(0).permutation(1797)[0]
    assert torch.equal(found.train.image[0, 0], torch.from_numpy(load_digits().images[first].astype(np.float32) / 16))


def test_mnist_has_5000_digits():
    found = images("mnist")
    assert found.train.image.shape == (4000, 1, 28, 28)
    assert found.test.image.shape == (1000, 1, 28, 28)
    assert found.train.image.max() == 1
    assert torch.equal(found.train.label.unique(), torch.arange(10))


def test_a_folder_of_files_is_cut_averaged_and_labelled_by_subfolder(tmp_path):
    for i, name in enumerate(("cat", "dog") * 6):
        (tmp_path / name).mkdir(exist_ok=True)
        pixels = np.full((20, 40, 3), 10 * i, np.uint8)
        pixels[:, :10] = 255  # Outside the middle square.
        Image.fromarray(pixels).save(tmp_path / name / f"{i}.png")
    found = images(tmp_path, size=5)
    assert found.train.image.shape == (11, 3, 5, 5)
    assert len(found.test) == 1
    whole = torch.cat([found.train.image, found.test.image])
    assert sorted((whole[:, 0, 0, 0] * 255).round().int().tolist()) == [10 * i for i in range(12)]
    for image, label in zip(found.train.image, found.train.label, strict=True):
        assert int(image[0, 0, 0] * 25.5 + 0.5) % 2 == label


def test_bad_folders_are_named(tmp_path):
    with pytest.raises(DataError, match="expected digits, mnist, a folder of images or a data set"):
        images("nothing-here")
    with pytest.raises(DataError, match=r"expected images .* found 0"):
        images(tmp_path)
    (tmp_path / "a.png").write_bytes(b"no image")
    (tmp_path / "b.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"a\.png: expected an image"):
        images(tmp_path)


def test_affine_without_change_is_the_identity_and_a_shift_moves_by_its_pixels():
    batch = {"image": torch.rand(4, 1, 8, 8, generator=seeded(0)), "label": torch.arange(4)}
    same = Affine()(batch, seeded(1))
    torch.testing.assert_close(same["image"], batch["image"], atol=1e-6, rtol=0)
    assert torch.equal(same["label"], batch["label"])
    spot = {"image": torch.zeros(200, 1, 9, 9)}
    spot["image"][:, 0, 4, 4] = 1
    moved = Affine(shift=2)(spot, seeded(2))["image"][:, 0]
    weight = moved / moved.sum((1, 2), keepdim=True)
    rows = (weight.sum(2) * torch.arange(9)).sum(1) - 4
    assert 1.7 < rows.abs().max() <= 2.001
    assert abs(float(rows.mean())) < 0.3


def test_affine_leaves_all_but_its_share_as_they_are():
    image = torch.rand(400, 1, 8, 8, generator=seeded(0))
    moved = Affine(degrees=20, shift=1, share=0.25)({"image": image}, seeded(1))["image"]
    changed = (moved != image).flatten(1).any(1)
    assert 0.19 < changed.float().mean() < 0.31
    assert (moved[changed] - image[changed]).abs().flatten(1).amax(1).min() > 0.01


def test_augmented_rows_do_not_depend_on_the_number_of_ranks():
    source = Images(torch.rand(32, 1, 8, 8, generator=seeded(0)))
    augment = Affine(degrees=20, shift=1, zoom=0.1)
    whole = Loader(source, batch=8, seed=3, augment=augment).step(5)["image"]
    half = Loader(source, batch=8, seed=3, rank=1, world=2, augment=augment).step(5)["image"]
    assert torch.equal(whole[4:], half)
    assert not torch.equal(whole, source.batch(Loader(source, batch=8, seed=3).indices(5))["image"])


def test_a_data_sets_camera_gives_images_and_holds_out_whole_episodes():
    found = images(GOLDEN / "lerobot_dataset_v3" / "dataset", size=16)
    assert found.train.image.shape[1:] == (3, 16, 16)
    assert found.train.image.min() >= 0
    assert found.train.image.max() <= 1
    assert found.train.image.std() > 0.05
    # MeanFlow's forward-mode derivative of group norm fails on channels-last memory.
    assert found.train.image.is_contiguous()
    assert found.test.image.is_contiguous()
    last = len(found.test)
    from nextmove.data import open_dataset

    dataset = open_dataset(GOLDEN / "lerobot_dataset_v3" / "dataset")
    camera = next(name for name in dataset.features if dataset.layout.feature(name).is_camera)
    (episode,) = np.flatnonzero(_episode_ids(dataset, camera) == found.test.ids[0])
    held = dataset.select([episode])
    assert last == len(held)
    assert (found.test.ids == found.test.ids[0]).all()
    assert len(found.train) + last == len(dataset.rows)
    # In an order of their own, not that of time.
    frames = dataset.video(camera).frames(held.rows)
    film = shrink(torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 255, 16)
    places = (found.test.image.flatten(1)[:, None] == film.flatten(1)).all(2).float().argmax(1)
    assert sorted(places.tolist()) == list(range(last))
    assert places.tolist() != list(range(last))


def noise(folder: Path, seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    for i in range(count):
        name = f"{rng.integers(10**6):06d}-{seed}-{i}.png"
        Image.fromarray(rng.integers(0, 256, (6, 9, 3), np.uint8)).save(folder / name)


def test_a_folder_that_grows_never_trains_on_what_was_for_tests(tmp_path):
    noise(tmp_path, 0, 60)
    before = images(tmp_path, size=4)
    assert 3 <= len(before.test) <= 10
    for seed in range(1, 6):
        noise(tmp_path, seed, 20)
        after = images(tmp_path, size=4)
        assert set(before.test.ids.tolist()) <= set(after.test.ids.tolist())
        assert not set(before.train.ids.tolist()) & set(after.test.ids.tolist())
        before = after
    assert len(after.train) + len(after.test) == 160
    assert 8 <= len(after.test) <= 26
    # Another name, folder, compression or size asked for changes nothing.
    moved = tmp_path / "moved" / "deep"
    moved.mkdir(parents=True)
    for i, path in enumerate(sorted(tmp_path.glob("*.png"))):
        Image.open(path).save(moved / f"{159 - i:03d}.png", compress_level=0)
    again = images(tmp_path / "moved", size=3)
    assert again.test.ids.tolist() == after.test.ids.tolist()
    assert again.train.ids.tolist() == after.train.ids.tolist()


def test_a_camera_set_that_grows_never_trains_on_what_was_for_tests(tmp_path):
    entries = {
        "observation.image": {"dtype": "image", "shape": [8, 8, 3], "names": ["height", "width", "channels"]},
        "action": {"dtype": "float32", "shape": [2], "names": None},
    }
    rng, tests = np.random.default_rng(0), []
    for grown in range(3):
        writer = DatasetWriter(tmp_path / "set", entries, 10, resume=bool(grown))
        for _ in range(12):
            frames = rng.integers(0, 256, (3, 8, 8, 3), np.uint8)
            writer.add_episode({"observation.image": frames, "action": rng.normal(size=(3, 2)).astype(np.float32)}, "x")
        writer.finalize()
        found = images(tmp_path / "set", size=8)
        assert not set(found.test.ids.tolist()) & set(found.train.ids.tolist())
        tests.append((set(found.test.ids.tolist()), set(found.train.ids.tolist())))
    for (old_test, old_train), (test, train) in itertools.pairwise(tests):
        assert old_test <= test
        assert old_train <= train


def test_so_few_images_that_none_is_for_tests_are_said(tmp_path):
    ids = np.array([7, 5, 9], np.uint64) << np.uint64(60)
    held, (note,) = held_out(ids, 0.1, tmp_path, "image")
    assert held.tolist() == [False, True, False]
    assert "of so few images one is kept for tests" in note
    assert held_out(np.array([1, 2, 2], np.uint64), 0.1, tmp_path, "image")[0].tolist() == [True, False, False]
    with pytest.raises(DataError, match="expected at least 2 different episodes, found 1"):
        held_out(np.array([7, 7], np.uint64), 0.1, tmp_path, "episode")
