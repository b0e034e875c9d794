"""D2Det: proposals, classified by discriminative RoI pooling, refined by dense local regression, with instance masks where trained so.

Cao, Cholakkal, Anwer, Khan, Pang, Shao, "D2Det: Towards High Quality Object Detection and Instance Segmentation", CVPR 2020. Built of
torchvision's detection parts. Where the authors' code and paper differ, `legacy` follows the code, for their weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from ros2_loc.errors import ConfigError, DataError
from ros2_loc.models.d2det.backbone import DEPTHS, pyramid
from ros2_loc.models.d2det.masks import in_image
from ros2_loc.models.d2det.proposals import proposal_network
from ros2_loc.models.d2det.roi_heads import D2DetHeads
from ros2_loc.models.imagenet import MEAN, STD

Found = dict[str, Tensor]
# images are padded to it, px
MULTIPLE = 32


class D2Det(nn.Module):
    """Losses of images with targets in training, detections of images in evaluation."""

    @dataclass(frozen=True)
    class Config:
        """Sizes and settings; the defaults are those of the paper's detector with ResNet-50.

        Attributes:
            labels: names of the classes.
            depth: of the ResNet: 50 or 101.
            widths: channels of the four stages of a narrow backbone instead of a ResNet; none for the ResNet.
            deformable: deformable convolutions in the ResNet's last three stages.
            masks: instance masks, and regression of the cells that lie on them.
            legacy: places of pixels and samples as in the authors' code, for their weights.
            short_side_px, long_side_px: images are resized so that neither side is longer.
            channels: of the feature pyramid.
            anchor_scale: side of an anchor in strides of its level.
            finest_px: boxes of less than twice this side are looked at in the finest level.
            proposals: of an image after suppression, in training and in evaluation.
            proposals_before: of each level before suppression, likewise.
            sampled_anchors, sampled_boxes, regressed_boxes: of an image, in a step of training, the last of a batch.
            hidden: numbers in the layers of the classification.
            light_hidden: numbers in the layers that predict the offsets of pooling and the scores of masks.
            samples: in each direction of a sub-region of pooling.
            num_convs, width, groups: convolutions of the dense regression, their channels and groups of normalization.
            mask_width, mask_groups: channels of the masks' deconvolutions and groups of normalization.
            min_score: least score of a class that a proposal is kept for.
            max_overlap: of two kept proposals of a class (intersection over union).
            max_detections: of an image.
        """

        labels: tuple[str, ...] = ()
        depth: int = 50
        widths: tuple[int, ...] = ()
        deformable: bool = False
        masks: bool = False
        legacy: bool = False
        short_side_px: int = 800
        long_side_px: int = 1333
        channels: int = 256
        anchor_scale: float = 8.0
        finest_px: float = 56.0
        proposals: tuple[int, int] = (2000, 1000)
        proposals_before: tuple[int, int] = (2000, 1000)
        sampled_anchors: int = 256
        sampled_boxes: int = 512
        regressed_boxes: int = 192
        hidden: int = 1024
        light_hidden: int = 1024
        samples: int = 2
        num_convs: int = 8
        width: int = 576
        groups: int = 36
        mask_width: int = 256
        mask_groups: int = 16
        min_score: float = 0.03
        max_overlap: float = 0.5
        max_detections: int = 125

        def __post_init__(self) -> None:
            for name in ("labels", "widths", "proposals", "proposals_before"):
                object.__setattr__(self, name, tuple(getattr(self, name)))
            if self.depth not in DEPTHS or len(self.widths) not in (0, 4) or (self.widths and self.deformable):
                raise ConfigError(f"d2det: a ResNet of depth {DEPTHS}, or four widths and no deformable, got {self.depth}, {self.widths}")
            if self.width % self.groups or self.mask_width % self.mask_groups:
                pairs = f"{self.width} / {self.groups} and {self.mask_width} / {self.mask_groups}"
                raise ConfigError(f"d2det: groups divide their channels, got {pairs}")
            if not MULTIPLE <= self.short_side_px <= self.long_side_px:
                raise ConfigError(f"d2det: {MULTIPLE} px <= short_side_px <= long_side_px, got {self.short_side_px}, {self.long_side_px}")

        @classmethod
        def small(cls, labels: Sequence[str]) -> D2Det.Config:
            """A network of about a million weights with masks, for a robot's CPU."""
            return cls(
                tuple(labels),
                widths=(32, 48, 64, 96),
                masks=True,
                short_side_px=384,
                long_side_px=1280,
                channels=48,
                anchor_scale=3.0,
                finest_px=28.0,
                proposals=(200, 80),
                proposals_before=(400, 150),
                sampled_anchors=128,
                sampled_boxes=64,
                regressed_boxes=64,
                hidden=128,
                light_hidden=64,
                samples=1,
                num_convs=3,
                width=64,
                groups=8,
                mask_width=32,
                mask_groups=8,
                min_score=0.05,
                max_detections=50,
            )

    def __init__(self, config: Config) -> None:
        super().__init__()
        if not config.labels:
            raise ConfigError("d2det: no labels: give the names of the classes")
        self.config = config
        sides = (config.short_side_px, config.long_side_px)
        self.transform = GeneralizedRCNNTransform(*sides, list(MEAN), list(STD), size_divisible=MULTIPLE)
        self.backbone = pyramid(config.depth, config.widths, config.deformable, config.channels)
        self.rpn = proposal_network(
            config.channels, config.anchor_scale, config.legacy, config.sampled_anchors, config.proposals_before, config.proposals
        )
        self.roi_heads = D2DetHeads(config)

    def train(self, mode: bool = True) -> D2Det:
        """The statistics of a ResNet stay those that it began with: batches are too small for new ones."""
        super().train(mode)
        if mode and not self.config.widths:
            for module in self.backbone.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()
        return self

    def forward(
        self, images: Sequence[Tensor] | Tensor, targets: Sequence[Mapping[str, Tensor]] | None = None
    ) -> dict[str, Tensor] | list[Found]:
        """As torchvision's detectors.

        Args:
            images: (3, H, W) each, or all of one size in one tensor: RGB in 0..1.
            targets: of each image boxes (N, 4) px x0, y0, x1, y1; labels (N,) int64 from 1; masks (N, H, W) where the network has masks.

        Returns:
            In training the losses by name, which are to be summed. In evaluation of each image, best first: boxes (N, 4) px, labels (N,)
            from 1, scores (N,), and masks (N, 1, H, W) in 0..1 where the network has masks.

        Raises:
            DataError: an image without pixels; in training a missing target, or a box without area.
        """
        images = list(images)
        if empty := [i for i, image in enumerate(images) if not image.numel()]:
            raise DataError(f"d2det: image {empty[0]} has no pixels: {tuple(images[empty[0]].shape)}")
        if self.training:
            return self.losses(*self.transform(images, [dict(one) for one in _checked(images, targets, self.config.masks)]))
        resized, _ = self.transform(images)
        found = self.detect(resized)
        for one, image, size in zip(found, images, resized.image_sizes, strict=True):
            height, width = image.shape[-2:]
            factor = one["boxes"].new_tensor([width / size[1], height / size[0]] * 2)
            one["boxes"] = one["boxes"] * factor
            if "masks" in one:
                one["masks"] = in_image(one["masks"], one["boxes"], (height, width))[:, None]
        return found

    def detect(self, images: ImageList) -> list[Found]:
        """Of images that are normalized, resized and padded as their sizes say; masks are (N, 28, 28) in 0..1 of their boxes."""
        features = self.backbone(images.tensors)
        proposals, _ = self.rpn(images, features)
        found, _ = self.roi_heads(features, proposals, images.image_sizes)
        return found  # type: ignore[no-any-return]

    def losses(self, images: ImageList, targets: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        """Of images as for `detect`, with targets as for `forward` in their pixels; masks have the padded size."""
        features = self.backbone(images.tensors)
        proposals, losses = self.rpn(images, features, targets)
        _, more = self.roi_heads(features, proposals, images.image_sizes, targets)
        return losses | more  # type: ignore[no-any-return]


def _checked(images: Sequence[Tensor], targets: Sequence[Mapping[str, Tensor]] | None, masks: bool) -> Sequence[Mapping[str, Tensor]]:
    if targets is None or len(targets) != len(images):
        raise DataError(f"d2det: {len(images)} images are trained with as many targets, got {len(targets or ())}")
    for i, target in enumerate(targets):
        boxes = target["boxes"]
        if boxes.shape[1:] != (4,) or (bad := ~((boxes[:, 2:] > boxes[:, :2]).all(dim=1) & boxes.isfinite().all(dim=1))).any():
            shown = boxes[bad][0].tolist() if boxes.shape[1:] == (4,) else tuple(boxes.shape)
            raise DataError(f"d2det: box {shown} of image {i} has no area: x0 < x1 and y0 < y1; leave such boxes out")
        if masks and ("masks" not in target or target["masks"].shape != (len(boxes), *images[i].shape[-2:])):
            raise DataError(f"d2det: image {i} needs a mask of its size for each of its {len(boxes)} boxes, or set masks: false")
    return targets
