"""The command line `ros2-loc`: one file per verb, imported when it is asked for."""
