"""Tells a robot where it is from its camera: a visual map, a metric pose with a covariance, and `map->odom`."""

# A checkout on sys.path must not hide the compiled ros2_loc.msg of the installed package.
__path__ = __import__("pkgutil").extend_path(__path__, __name__)
__version__ = "0.1.0"
