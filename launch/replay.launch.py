"""Play a rosbag2 and watch it being localized in RViz: `ros2 launch ros2_loc replay.launch.py map:=/maps/town bag:=/bags/second_drive`."""

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration

from ros2_loc.config import share_folder


def generate_launch_description():
    """localize.launch.py with a bag, simulated time and RViz; its other arguments may be given as well."""
    return LaunchDescription(
        [
            DeclareLaunchArgument("map", default_value="", description="folder of a map made by `ros2-loc map build`"),
            DeclareLaunchArgument("tiles", default_value="", description="folder of satellite tiles made by `ros2-loc tiles build`"),
            DeclareLaunchArgument("bag", description="the rosbag2 to play"),
            DeclareLaunchArgument("rviz", default_value="true", description="open RViz"),
            DeclareLaunchArgument("exit_with_bag", default_value="false", description="stop everything when the bag is over"),
            IncludeLaunchDescription(
                PythonLaunchDescriptionSource(str(share_folder() / "launch" / "localize.launch.py")),
                launch_arguments={
                    "map": LaunchConfiguration("map"),
                    "tiles": LaunchConfiguration("tiles"),
                    "bag": LaunchConfiguration("bag"),
                    "rviz": LaunchConfiguration("rviz"),
                    "exit_with_bag": LaunchConfiguration("exit_with_bag"),
                    "use_sim_time": "true",
                }.items(),
            ),
        ]
    )
