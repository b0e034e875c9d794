"""What CenterNet learns from: targets that decode to the boxes they are of, radii, losses; a batch learned by heart."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

torch = pytest.importorskip("torch", reason="torch is not installed: pip install '.[torch]'")

from ros2_loc.core.camera import Camera  # noqa: E402
from ros2_loc.core.pose import Pose  # noqa: E402
from ros2_loc.core.types import Frame  # noqa: E402
from ros2_loc.errors import ConfigError  # noqa: E402
from ros2_loc.models.centernet import CenterNet, Heads, decode  # noqa: E402
from ros2_loc.models.centernet.decode import SCORE  # noqa: E402
from ros2_loc.perception.detectors.centernet import Centernet  # noqa: E402
from ros2_loc.training.centernet_objective import (  # noqa: E402
    CenterNetObjective,
    CenterNetTargets,
    centernet_loss,
    corner_radius,
    focal_loss,
    tag_losses,
    targets_of,
)

LABELS = ("car", "truck", "person")


def perfect(targets: CenterNetTargets) -> Heads:
    """Maps that say exactly what the targets do; the tag of an object is its number."""
    batch, _, _, height, width = targets.heat.shape
    heat = torch.where(targets.heat == 1.0, 20.0, -20.0)
    tags, offsets = torch.zeros(2, batch, 1, height * width), torch.zeros(3, batch, 2, height * width)
    for image in range(batch):
        for index in torch.nonzero(targets.present[image]).flatten().tolist():
            for kind in range(3):
                cell = targets.cells[image, kind, index]
                offsets[kind, image, :, cell] = targets.offsets[image, kind, index]
                if kind < 2:
                    tags[kind, image, 0, cell] = 2.0 * index
    shaped = [one.unflatten(-1, (height, width)) for one in (*tags, *offsets)]
    return Heads(heat[:, 0], heat[:, 1], heat[:, 2], *shaped)


def apart(rng: np.random.Generator, size: tuple[int, int]) -> NDArray[np.float64]:
    """Up to 9 boxes (N, 4), each in a square of its own."""
    step = np.array(size) / 3.0
    corners = np.stack(np.meshgrid(range(3), range(3)), axis=-1).reshape(-1, 2)[rng.random(9) < 0.7] * step
    low = corners + rng.uniform(0, 0.3, corners.shape) * step
    return np.hstack([low, low + rng.uniform(0.3, 0.68, corners.shape) * step])


@given(seed=st.integers(0, 1000), width=st.sampled_from([96, 160, 127]), height=st.sampled_from([96, 128, 255]))
def test_targets_decode_to_their_boxes(seed: int, width: int, height: int) -> None:
    rng = np.random.default_rng(seed)
    boxes = [apart(rng, (width, height)) for _ in range(2)]
    labels = [rng.integers(0, len(LABELS), len(own)) for own in boxes]
    targets = targets_of(boxes, labels, (width, height), len(LABELS), max_objects=9)
    assert targets.heat.shape == (2, 3, len(LABELS), -(-height // 4), -(-width // 4))
    pairs, _ = decode(perfect(targets), top_k=20, max_tag_distance=0.5)
    px = np.tile([width / targets.heat.shape[4], height / targets.heat.shape[3]], 2)
    for image in range(2):
        found = pairs[image][pairs[image, :, SCORE] > 0.9].numpy()
        expected = np.column_stack([boxes[image], labels[image]]).tolist()
        assert len(found) == len(expected)
        for row in np.column_stack([found[:, :4] * px, found[:, 7]]):
            assert np.abs(np.array(expected) - row).max(axis=1).min() < 1e-3


def test_what_lies_outside_is_cut_off_or_left_out() -> None:
    boxes = np.array([[-20.0, -10, 30, 40], [200, 10, 220, 30], [10, 10, 10, 30], [40, 50, 96, 96], [30, 30, 20, 40]])
    targets = targets_of([boxes], [np.array([0, 1, 1, 2, 1])], (96, 96), 3)
    assert int(targets.present.sum()) == 2 and not targets.heat[:, :, 1].any()
    corners = {tuple(row) for row in torch.nonzero(targets.heat[0, 0] == 1.0).tolist()}
    assert corners == {(0, 0, 0), (2, 12, 10)}
    last = {tuple(row) for row in torch.nonzero(targets.heat[0, 1] == 1.0).tolist()}
    assert last == {(0, 10, 7), (2, 23, 23)}  # at the border: in the last cell
    assert targets.offsets.max() <= 1.0 and targets.offsets.min() >= 0.0


def test_images_without_objects_and_more_objects_than_there_is_room_for() -> None:
    many = np.array([[k, k, k + 4.0 + k, k + 4.0] for k in range(20)])
    targets = targets_of([np.zeros((0, 4)), many], [np.zeros(0, int), np.zeros(20, int)], (64, 64), 1, max_objects=5)
    assert targets.present.sum(dim=1).tolist() == [0, 5]
    losses = centernet_loss([perfect(targets)], targets)
    assert all(torch.isfinite(value) for value in losses.values())
    nothing = CenterNetTargets(*(value[:1] for value in targets))
    assert centernet_loss([perfect(nothing)], nothing)["loss"] < 1e-6


def overlap(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    shared = np.prod(np.maximum(np.minimum(first[2:], second[2:]) - np.maximum(first[:2], second[:2]), 0.0))
    return float(shared / (np.prod(first[2:] - first[:2]) + np.prod(second[2:] - second[:2]) - shared))


@given(
    width=st.floats(1, 200),
    height=st.floats(1, 200),
    least=st.sampled_from([0.3, 0.5, 0.7]),
    moves=st.lists(st.floats(-1, 1), min_size=4, max_size=4),
)
def test_corners_within_the_radius_make_a_box_of_that_overlap(width: float, height: float, least: float, moves: list[float]) -> None:
    """CornerNet's three cases bound all others, as each corner moves by at most the radius in x and in y."""
    radius = float(corner_radius(np.array([[width, height]]), least)[0])
    box = np.array([0.0, 0.0, width, height])
    assert 0 < radius < max(width, height) / 2
    for move in (np.array(moves), np.array([1, 1, -1, -1.0]), np.array([-1, -1, 1, 1.0]), np.array([1, 1, 1, 1.0])):
        assert overlap(box, box + radius * move) >= least - 1e-9
    extremes = [np.array([1, 1, -1, -1.0]), np.array([-1, -1, 1, 1.0]), np.array([1, 1, 1, 1.0])]
    assert min(overlap(box, box + 1.02 * radius * move) for move in extremes) < least


def test_heat_falls_off_around_corners_and_the_greater_counts() -> None:
    boxes = np.array([[40.0, 40, 120, 120], [48, 40, 128, 120]])
    heat = targets_of([boxes], [np.array([0, 0])], (192, 192), 1).heat[0, 0, 0]
    assert heat[10, 10] == 1.0 and heat[10, 12] == 1.0 and 0.8 < heat[10, 11] < 1.0
    assert heat[10, 9] > heat[10, 8] > heat[10, 7] > 0 and heat[10, 40] == 0 and heat[9, 10] == heat[11, 10]


def test_focal_loss_is_cornernets_equation() -> None:
    rng = torch.Generator().manual_seed(0)
    logits, heat = torch.randn(2, 3, 5, 5, generator=rng), torch.rand(2, 3, 5, 5, generator=rng)
    heat[0, 0, 0, 0] = heat[1, 2, 3, 3] = 1.0
    share, total = logits.sigmoid(), 0.0
    for p, y in zip(share.flatten().tolist(), heat.flatten().tolist(), strict=True):
        total -= (1 - p) ** 2 * np.log(p) if y == 1.0 else (1 - y) ** 4 * p**2 * np.log(1 - p)
    assert float(focal_loss(logits, heat)) == pytest.approx(total / 2, rel=1e-5)
    assert torch.isfinite(focal_loss(200.0 * logits, heat))


def test_tags_are_pulled_together_and_pushed_apart() -> None:
    present = torch.tensor([[True, True, False], [True, False, False]])
    tl, br = torch.tensor([[0.0, 2.0, 5.0], [1.0, 0.0, 0.0]]), torch.tensor([[1.0, 2.0, 9.0], [1.0, 7.0, 0.0]])
    pull, push = tag_losses(tl, br, present)
    assert float(pull) == pytest.approx(0.5 / 2) and float(push) == 0.0  # 0.5 and 2 are further apart than 1
    near = torch.tensor([[0.0, 0.25, 5.0], [1.0, 0.0, 0.0]])
    pull, push = tag_losses(near, near, present)
    assert float(pull) == 0.0 and float(push) == pytest.approx(0.75)


def test_a_loss_is_the_mean_over_stacks_with_the_papers_weights() -> None:
    torch.manual_seed(0)
    targets = targets_of([np.array([[8.0, 8, 40, 50]])], [np.array([1])], (64, 64), 2)
    stacks = [Heads(*(torch.randn(1, c, 16, 16) for c in (2, 2, 2, 1, 1, 2, 2, 2))) for _ in range(2)]
    single = [centernet_loss([one], targets) for one in stacks]
    both = centernet_loss(stacks, targets)
    assert float(both["loss"]) == pytest.approx(sum(float(one["loss"]) for one in single) / 2, rel=1e-5)
    parts = {name: float(value) for name, value in single[0].items()}
    assert parts["loss"] == pytest.approx(
        parts["corners"] + parts["centres"] + 0.1 * parts["pull"] + 0.1 * parts["push"] + parts["offset"], rel=1e-5
    )
    with pytest.raises(ConfigError, match="not negative"):
        CenterNetObjective.Config(pull=-1.0)


@pytest.mark.slow  # half a minute of a core
def test_a_batch_is_learned_by_heart() -> None:
    """The whole chain: pictures and boxes -> targets -> losses -> weights -> the detector finds those boxes."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    images = rng.integers(80, 110, (2, 96, 128, 3), dtype=np.uint8)
    boxes = [np.array([[8.0, 12, 50, 44], [70, 20, 98, 84]]), np.array([[20.5, 30, 66, 90], [84, 8, 120, 40]])]
    labels = [np.array([0, 2]), np.array([1, 0])]
    colours = ((220, 30, 30), (30, 30, 220), (30, 220, 30))
    for image, own, kinds in zip(images, boxes, labels, strict=True):
        for (x0, y0, x1, y1), kind in zip(own.astype(int), kinds, strict=True):
            image[y0:y1, x0:x1] = colours[kind]
    objective = CenterNetObjective(CenterNetObjective.Config(), CenterNet(CenterNet.Config.small(LABELS)))
    batch = {"image": torch.from_numpy(images), **targets_of(boxes, labels, (128, 96), len(LABELS))._asdict()}
    optimizer = torch.optim.Adam(objective.parameters(), 1e-3)
    losses = []
    for _ in range(80):
        loss = objective(batch)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.01 * losses[0]
    detector = Centernet.of_network(objective.network, Centernet.Config(min_score=0.5))
    for image, own, kinds in zip(images, boxes, labels, strict=True):
        found = detector.detect(Frame(0, image, Camera.pinhole(128, 96, 100, 100, 64, 48), Pose.identity()))
        assert sorted(one.label for one in found) == sorted(LABELS[kind] for kind in kinds)
        for one in found:
            distances = np.abs(own - one.box).max(axis=1)
            assert distances.min() < 1.0 and LABELS[kinds[distances.argmin()]] == one.label
