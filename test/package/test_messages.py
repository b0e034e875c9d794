"""The compiled messages are those of msg/, and the copies in interfaces/ have the wire types of the originals."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

import pytest
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

OURS = ("LocalizationStatus", "RetrievedPlace", "RetrievedPlaces")

pytest.importorskip("rclpy", reason="no ROS 2 on this machine")


def source(checkout: Path, package: str, name: str) -> str:
    folder = checkout if package == "ros2_loc" else checkout / "interfaces" / package
    return (folder / "msg" / f"{name}.msg").read_text()


@pytest.mark.parametrize("name", OURS)
def test_compiled_messages_are_those_of_the_checkout(checkout: Path, name: str) -> None:
    full_name = f"ros2_loc/msg/{name}"
    constants, fields = get_types_from_msg(source(checkout, "ros2_loc", name), full_name)[full_name]
    message = getattr(importlib.import_module("ros2_loc.msg"), name)
    assert list(message.get_fields_and_field_types()) == [field for field, _ in fields], "msg/ has changed since: pip install ."
    assert {constant: getattr(message, constant) for constant, _, _ in constants} == {constant: value for constant, _, value in constants}


def test_status_survives_the_wire() -> None:
    from rclpy.serialization import deserialize_message, serialize_message
    from ros2_loc.msg import LocalizationStatus

    status = LocalizationStatus(state=LocalizationStatus.LOST, source="map_localizer", rejection_reason="TOO_FEW_INLIERS")
    status.stage_names, status.stage_times_s = ["extract", "solve"], [0.125, 0.5]
    assert deserialize_message(serialize_message(status), LocalizationStatus) == status


def test_a_message_cut_short_is_an_error_and_no_crash() -> None:
    """The exception of Fast DDS passes through the compiled library; built wrongly, that ends the process."""
    from rclpy.serialization import deserialize_message, serialize_message
    from ros2_loc.msg import LocalizationStatus

    whole = serialize_message(LocalizationStatus(source="map_localizer", stage_names=["extract", "solve"]))
    for length in range(len(whole)):
        with pytest.raises(Exception, match="deserializ"):
            deserialize_message(whole[:length], LocalizationStatus)


@pytest.mark.parametrize("package", ["tf2_msgs", "vision_msgs"])
def test_copies_of_standard_messages_match_their_sources(checkout: Path, package: str) -> None:
    """Also against a real tf2_msgs or vision_msgs, where one is installed in place of our copy."""
    module = importlib.import_module(f"{package}.msg")
    names = [path.stem for path in (checkout / "interfaces" / package / "msg").glob("*.msg")]
    assert names
    for name in names:
        full_name = f"{package}/msg/{name}"
        _, fields = get_types_from_msg(source(checkout, package, name), full_name)[full_name]
        assert list(getattr(module, name).get_fields_and_field_types()) == [field for field, _ in fields], full_name


def test_tf_message_has_the_type_hash_of_the_original() -> None:
    description = Path(sys.prefix, "share/tf2_msgs/msg/TFMessage.json")
    if not description.exists():
        pytest.skip("tf2_msgs is not installed in this environment's prefix")
    hashes = {entry["type_name"]: entry["hash_string"] for entry in json.loads(description.read_text())["type_hashes"]}
    original = get_typestore(Stores.ROS2_KILTED)
    assert hashes["tf2_msgs/msg/TFMessage"] == original.hash_rihs01("tf2_msgs/msg/TFMessage")
