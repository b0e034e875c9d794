"""Build a map from a rosbag2 with poses: `ros2 launch ros2_loc build_map.launch.py bag:=/bags/first_drive map:=/maps/town`."""

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, Shutdown
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node


def generate_launch_description():
    """`ros2-loc map build` as a process of the launch, which ends with it."""
    return LaunchDescription(
        [
            DeclareLaunchArgument("bag", description="rosbag2, or folder of images with poses, to build the map from"),
            DeclareLaunchArgument("map", description="folder to write the map to"),
            DeclareLaunchArgument("pipeline", default_value="default", description="pipeline that will localize in the map"),
            Node(
                package="ros2_loc",
                executable="ros2-loc",
                name="build_map",
                arguments=[
                    "map",
                    "build",
                    LaunchConfiguration("bag"),
                    LaunchConfiguration("map"),
                    "--pipeline",
                    LaunchConfiguration("pipeline"),
                ],
                output="screen",
                on_exit=[Shutdown(reason="the map is built")],
            ),
        ]
    )
