"""The weights that can be named: where each file is from, what it may be used for, which network it fits.

Neither PyTorch nor a network is imported here: classes and loaders stand as "module:attribute".
"""

from __future__ import annotations

from dataclasses import dataclass

_R2D2 = "https://github.com/naver/r2d2/raw/master/models/"
_ALIKED = "https://github.com/Shiaoming/ALIKED/raw/main/models/"
_MAGIC_LEAP = "https://github.com/magicleap/SuperGluePretrainedNetwork"
_D2_NET = "https://dusmanu.com/files/d2-net/"
_LIGHTGLUE = "https://github.com/cvg/LightGlue/releases/download/v0.1_arxiv/"
_KORNIA = "https://huggingface.co/kornia/"

_NAVER_LICENCE = "CC BY-NC-SA 3.0"
_MAGIC_LEAP_LICENCE = "Magic Leap: academic or non-profit noncommercial research"
_IMAGENET = "RGB in 0..1, minus ImageNet's mean, over its standard deviation"
_PYCLS = "BGR in 0..1, minus (0.406, 0.456, 0.485), over (0.225, 0.224, 0.229)"
_POINTS = "keypoints in the pixels of their image, with its size; descriptors of unit length"


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightFile:
    """One line of the table.

    Attributes:
        file: name in this package's data folder, or "" for a file that is not shipped.
        published: name under which its authors publish a file that is not shipped.
        url: where it can be downloaded; "" where only a page is known (see `source`), from which the user brings the file.
        mirrors: the same file elsewhere.
        source: where it is from: a recipe of this project, or the page of those who published it.
        sha256: hexadecimal, of the whole file; "" where nobody has told us: the first download's is recorded and holds from then on.
        licence: of the weights.
        commercial: whether that licence and that of the training data allow commercial use.
        size_mb: of the file, 10^6 bytes.
        preprocessing: what the network expects of an image.
        loader: "module:function" that makes the network of the file, "" for files that no function of `models` opens (ONNX).
        used_by: the components that take it.
    """

    source: str
    licence: str
    commercial: bool
    preprocessing: str
    file: str = ""
    published: str = ""
    url: str = ""
    mirrors: tuple[str, ...] = ()
    sha256: str = ""
    size_mb: float = 0.0
    loader: str = ""
    used_by: tuple[str, ...] = ()


def _r2d2(stem: str, sha256: str, size_mb: float) -> WeightFile:
    return WeightFile(
        published=f"{stem}.pt",
        url=f"{_R2D2}{stem}.pt",
        source="https://github.com/naver/r2d2",
        sha256=sha256,
        licence=_NAVER_LICENCE,
        commercial=False,
        size_mb=size_mb,
        preprocessing=_IMAGENET,
        loader="ros2_loc.models.r2d2:load_published",
        used_by=("r2d2",),
    )


def _aliked(stem: str, sha256: str, size_mb: float) -> WeightFile:
    return WeightFile(
        published=f"{stem}.pth",
        url=f"{_ALIKED}{stem}.pth",
        source="https://github.com/Shiaoming/ALIKED",
        sha256=sha256,
        licence="BSD-3-Clause",
        commercial=True,
        size_mb=size_mb,
        preprocessing="RGB in 0..1",
        loader="ros2_loc.models.aliked:load_published",
        used_by=("aliked",),
    )


def _magic_leap(stem: str, network: str, size_mb: float, preprocessing: str) -> WeightFile:
    return WeightFile(
        published=f"{stem}.pth",
        url=f"{_MAGIC_LEAP}/raw/master/models/weights/{stem}.pth",
        source=_MAGIC_LEAP,
        licence=_MAGIC_LEAP_LICENCE,
        commercial=False,
        size_mb=size_mb,
        preprocessing=preprocessing,
        loader=f"ros2_loc.models.{network}:load_published",
        used_by=(network,),
    )


def _d2_net(stem: str) -> WeightFile:
    return WeightFile(
        published=f"{stem}.pth",
        url=f"{_D2_NET}{stem}.pth",
        source="https://github.com/mihaidusmanu/d2-net",
        licence="BSD-3-Clause-Clear",
        commercial=True,
        size_mb=30.5,
        preprocessing="BGR in 0..255, minus (103.939, 116.779, 123.68)",
        loader="ros2_loc.models.d2net:load_published",
        used_by=("d2net",),
    )


def _delg(depth: int, size_mb: float) -> WeightFile:
    return WeightFile(
        published=f"delg_r{depth}.pyth",
        source="https://github.com/feymanpriv/DELG",
        licence="that of the repository: read its LICENSE",
        commercial=False,
        size_mb=size_mb,
        preprocessing=_PYCLS,
        loader="ros2_loc.models.delg:load_published",
        used_by=("delg",),
    )


def _places(method: str, backbone: str, dimension: int, size_mb: float) -> WeightFile:
    repository = {"cosplace": "https://github.com/gmberton/CosPlace", "eigenplaces": "https://github.com/gmberton/EigenPlaces"}[method]
    published = f"{backbone}_{dimension}_{method}.pth"
    return WeightFile(
        published=published,
        url=f"{repository}/releases/download/v1.0/{published}",
        source=repository,
        licence="MIT; trained on SF-XL, which is of street views of Google",
        commercial=False,
        size_mb=size_mb,
        preprocessing=_IMAGENET,
        loader="ros2_loc.models.cosplace:load_published",
        used_by=(method,),
    )


def _cvnet(depth: int, size_mb: float) -> WeightFile:
    return WeightFile(
        published=f"CVPR2022_CVNet_R{depth}.pyth",
        source="https://github.com/sungonce/CVNet (a Google Drive folder linked there)",
        licence="that of the repository: read its LICENSE; trained on Google Landmarks v2",
        commercial=False,
        size_mb=size_mb,
        preprocessing=_PYCLS,
        loader="ros2_loc.models.cvnet:load_published",
        used_by=("cvnet",),
    )


def _lightglue(features: str, licence: str = "Apache-2.0", commercial: bool = True) -> WeightFile:
    return WeightFile(
        published=f"{features}_lightglue.pth",
        url=f"{_LIGHTGLUE}{features}_lightglue.pth",
        mirrors=(f"{_KORNIA}lightglue/resolve/main/{features}_lightglue.pth",),
        source="https://github.com/cvg/LightGlue",
        licence=licence,
        commercial=commercial,
        size_mb=47.5,
        preprocessing=_POINTS,
        used_by=("lightglue",),
    )


def _onnx(file: str, network: str, sha256: str, size_mb: float, preprocessing: str) -> WeightFile:
    return WeightFile(
        published=file,
        source=f"an export of https://github.com/verlab/accelerated_features by others (the authors' own file: {network}_official)",
        sha256=sha256,
        licence="Apache-2.0",
        commercial=True,
        size_mb=size_mb,
        preprocessing=preprocessing,
        loader="ros2_loc.models.xfeat:load_published" if network == "xfeat" else "",
        used_by=(network,),
    )


def _verlab(file: str, network: str, size_mb: float, preprocessing: str, mirrors: tuple[str, ...] = ()) -> WeightFile:
    return WeightFile(
        published=file,
        url=f"https://github.com/verlab/accelerated_features/raw/main/weights/{file}",
        mirrors=mirrors,
        source="https://github.com/verlab/accelerated_features",
        licence="Apache-2.0",
        commercial=True,
        size_mb=size_mb,
        preprocessing=preprocessing,
        loader="ros2_loc.models.xfeat:load_published" if network == "xfeat" else "",
        used_by=(network,),
    )


def _patch_netvlad(places: str, num_pcs: int, size_mb: float) -> WeightFile:
    return WeightFile(
        published=f"{places}_WPCA{num_pcs}.pth.tar",
        source="https://github.com/QVPR/Patch-NetVLAD",
        licence="MIT; trained on images for research only",
        commercial=False,
        size_mb=size_mb,
        preprocessing=f"640x480 px, {_IMAGENET}",
        loader="ros2_loc.models.patch_netvlad:load_published",
        used_by=("patch_netvlad", "netvlad"),
    )


def _transvpr(places: str) -> WeightFile:
    return WeightFile(
        published=f"TransVPR_{places}.pth",
        source="https://github.com/RuotongWANG/TransVPR-model-implementation",
        licence="that of the repository: read its LICENSE; trained on images for research only",
        commercial=False,
        size_mb=21.6,
        preprocessing=f"640x480 px, {_IMAGENET}",
        loader="ros2_loc.models.transvpr:load_published",
        used_by=("transvpr",),
    )


_CENTERNET = "BGR in 0..1, minus (0.408, 0.447, 0.470), over (0.289, 0.274, 0.278)"


def _centernet(layers: int, size_mb: float) -> WeightFile:
    return WeightFile(
        published=f"CenterNet-{layers}_480000.pkl",
        source="https://github.com/Duankaiwen/CenterNet (a Google Drive file linked there)",
        licence="code MIT; trained on COCO, whose images are Flickr's users'",
        commercial=False,
        size_mb=size_mb,
        preprocessing=_CENTERNET,
        loader="ros2_loc.models.centernet.official:load_published",
        used_by=("centernet",),
    )


def _d2det(settings: str, size_mb: float) -> WeightFile:
    return WeightFile(
        published=f"D2Det_{settings}_fpn_2x.pth",
        source="https://github.com/JialeCao001/D2Det (files linked there beside the settings of this name)",
        licence="none given: the repository has no licence file; trained on COCO, whose images are Flickr's users'",
        commercial=False,
        size_mb=size_mb,
        preprocessing=f"{_IMAGENET}; 1333 x 800 at most, sides filled up to multiples of 32",
        loader="ros2_loc.models.d2det.official:load_published",
        used_by=("d2det",),
    )


TABLE: dict[str, WeightFile] = {
    "small": WeightFile(
        file="cvlnet_small.safetensors",
        source="ros2-loc train cvlnet --data town --recipe small",
        sha256="2e5441962e5b0f1faeb320afd95d912cc9116a7cb1f659e7ba45552732da665c",
        licence="Apache-2.0",
        commercial=True,
        size_mb=0.8,
        preprocessing="RGB in 0..1; frames as the level view, tiles north up",
        used_by=("cvlnet",),
    ),
    "cosplace_town": WeightFile(
        file="cosplace_town.safetensors",
        source="ros2-loc train cosplace --data town --recipe small --set loop.epochs=240",
        sha256="870eb16db73c9f61ed187e165d5ea8a91c61961b2d0377cb29c270e9b9a1d2a2",
        licence="Apache-2.0",
        commercial=True,
        size_mb=2.8,
        preprocessing=f"{_IMAGENET}; of 104 x 64 px: size: [104, 64]",
        used_by=("cosplace",),
    ),
    "centernet_town": WeightFile(
        file="centernet_town.safetensors",
        source="ros2-loc train centernet --data town",
        sha256="bef903c8d974165e8dc0d91da7d36d95a36911b531be1246831f6c4a24af889b",
        licence="Apache-2.0",
        commercial=True,
        size_mb=2.4,
        preprocessing=_CENTERNET,
        used_by=("centernet",),
    ),
    "d2det_town": WeightFile(
        file="d2det_town.safetensors",
        source="ros2-loc train d2det --data town",
        sha256="63826737123512db8b66be4c764cd0403f4df9814e4b31e5ea10ce07d2963a0c",
        licence="Apache-2.0",
        commercial=True,
        size_mb=3.1,
        preprocessing=f"{_IMAGENET}; 1.2 times the images' size",
        used_by=("d2det",),
    ),
    "r2d2_wasf_n16": _r2d2("r2d2_WASF_N16", "9ae90e02a9a133d100ca7aeaa32f4d4d7736a6dd222a530a25c8f7da5e508528", 2.0),
    "r2d2_wasf_n8_big": _r2d2("r2d2_WASF_N8_big", "597dc13998e211e827c550bdc8f76dbb4aca32747846f96962c9168586cec418", 4.2),
    "r2d2_waf_n16": _r2d2("r2d2_WAF_N16", "27cebd6608317b35198a76f60f87492110dee3e88ca382586a729dadb1a16b90", 2.0),
    "faster2d2_wasf_n16": _r2d2("faster2d2_WASF_N16", "217daa3a166bfe9bf2b68c05c1607a09dd4d552ae1bbeda885479d504eefc14b", 2.0),
    "aliked_t16": _aliked("aliked-t16", "56782336919db220144a884e710e2b6af13b3b8f8da15b915a239078ab471085", 0.8),
    "aliked_n16": _aliked("aliked-n16", "5be8704840ed662d9d8c561bf7279c222092674e7eb05fd0feab94899e9d82f2", 2.7),
    "aliked_n32": _aliked("aliked-n32", "055283fd1624d3ab46a05c3b617b1a79a3f28d1f551737eef2d653e8c8232890", 3.9),
    "xfeat": _onnx(
        "xfeat.onnx", "xfeat", "54041f61f0d9b1968451a65fe0fd79e96692b1d8266c54a6939a73e847df5988", 2.7, "see perception/extractors/xfeat.py"
    ),
    "lighterglue": _onnx(
        "lighterglue_L3.onnx", "lighterglue", "a721f366f54b20328fa98c799cc31478edb1c31f0c941528df3d363c3753760d", 2.3, _POINTS
    ),
    "xfeat_official": _verlab("xfeat.pt", "xfeat", 6.2, "see perception/extractors/xfeat.py"),
    "lighterglue_official": _verlab(
        "xfeat-lighterglue.pt", "lighterglue", 4.2, _POINTS, (f"{_KORNIA}lightglue/resolve/main/xfeat-lighterglue.pt",)
    ),
    "superpoint_v1": _magic_leap("superpoint_v1", "superpoint", 5.2, "gray in 0..1"),
    "superglue_indoor": _magic_leap("superglue_indoor", "superglue", 48.2, _POINTS),
    "superglue_outdoor": _magic_leap("superglue_outdoor", "superglue", 48.2, _POINTS),
    "superpoint_lightglue": _lightglue("superpoint", "Apache-2.0; SuperPoint, without which it is of no use, is not", False),
    "aliked_lightglue": _lightglue("aliked"),
    "disk_lightglue": _lightglue("disk"),
    "sift_lightglue": _lightglue("sift"),
    "d2_tf": _d2_net("d2_tf"),
    "d2_ots": _d2_net("d2_ots"),
    "d2_tf_no_phototourism": _d2_net("d2_tf_no_phototourism"),
    "delg_r50": _delg(50, 100.6),
    "delg_r101": _delg(101, 176.0),
    "cosplace_resnet18_512": _places("cosplace", "ResNet18", 512, 45.8),
    "cosplace_resnet50_512": _places("cosplace", "ResNet50", 512, 98.4),
    "cosplace_resnet50_2048": _places("cosplace", "ResNet50", 2048, 111.0),
    "cosplace_resnet101_512": _places("cosplace", "ResNet101", 512, 174.6),
    "cosplace_resnet152_512": _places("cosplace", "ResNet152", 512, 237.4),
    "cosplace_vgg16_512": _places("cosplace", "VGG16", 512, 59.9),
    "eigenplaces_resnet18_512": _places("eigenplaces", "ResNet18", 512, 45.8),
    "eigenplaces_resnet50_512": _places("eigenplaces", "ResNet50", 512, 98.4),
    "eigenplaces_resnet50_2048": _places("eigenplaces", "ResNet50", 2048, 111.0),
    "eigenplaces_resnet101_2048": _places("eigenplaces", "ResNet101", 2048, 187.2),
    "eigenplaces_vgg16_512": _places("eigenplaces", "VGG16", 512, 59.9),
    "patchnetvlad_mapillary_128": _patch_netvlad("mapillary", 128, 63.1),
    "patchnetvlad_mapillary_512": _patch_netvlad("mapillary", 512, 75.7),
    "patchnetvlad_mapillary_4096": _patch_netvlad("mapillary", 4096, 193.2),
    "patchnetvlad_pittsburgh_128": _patch_netvlad("pittsburgh", 128, 63.1),
    "patchnetvlad_pittsburgh_512": _patch_netvlad("pittsburgh", 512, 75.7),
    "patchnetvlad_pittsburgh_4096": _patch_netvlad("pittsburgh", 4096, 193.2),
    "transvpr_msls": _transvpr("MSLS"),
    "transvpr_pitts30k": _transvpr("Pitts30k"),
    "loftr_outdoor": WeightFile(
        published="loftr_outdoor.ckpt",
        url=f"{_KORNIA}loftr/resolve/main/loftr_outdoor.ckpt",
        mirrors=("https://cmp.felk.cvut.cz/~mishkdmy/models/loftr_outdoor.ckpt",),
        source="https://github.com/zju3dv/LoFTR (outdoor_ds.ckpt), as kornia publishes it",
        licence="Apache-2.0",
        commercial=True,
        size_mb=46.3,
        preprocessing="gray in 0..1, width and height multiples of 8",
        loader="ros2_loc.models.loftr:load_published",
        used_by=("loftr",),
    ),
    "cvnet_r50": _cvnet(50, 141.0),
    "cvnet_r101": _cvnet(101, 217.2),
    "rrt_gld": WeightFile(
        published="rrt_gld.pt",
        source="https://github.com/uvavision/RerankingTransformer (rrt_gld_ckpts, whose files could not be had: name yours rrt_gld.pt)",
        licence="that of the repository: read its LICENSE; trained on Google Landmarks v2",
        commercial=False,
        size_mb=9.0,
        preprocessing="DELG's local descriptors of 128 numbers and global ones of 2048, of unit length",
        loader="ros2_loc.models.rrt:load_published",
        used_by=("rrt",),
    ),
    "hrnet_w48_cityscapes": WeightFile(
        published="hrnet_w48_cityscapes_cls19_1024x2048_trainset.pth",
        source="https://github.com/HRNet/HRNet-Semantic-Segmentation (a OneDrive folder linked there)",
        licence="code MIT; trained on Cityscapes, whose images are for non-commercial use",
        commercial=False,
        size_mb=263.8,
        preprocessing=_IMAGENET,
        loader="ros2_loc.models.hrnet:load_published",
        used_by=("context_r2d2",),
    ),
    "centernet_52": _centernet(52, 420.0),
    "centernet_104": _centernet(104, 841.4),
    "d2det_r50": _d2det("detection_r50", 320.6),
    "d2det_r101": _d2det("detection_r101", 396.8),
    "d2det_r101_dcn": _d2det("detection_r101_dcn", 404.5),
    "d2det_instance_r50": _d2det("instance_r50", 445.1),
    "d2det_instance_r101": _d2det("instance_r101", 521.3),
}
