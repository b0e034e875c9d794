#!/bin/sh
# make_venv.sh PYTHON FOLDER: a virtual environment in FOLDER that holds ros2_loc, its libraries and, where none is sourced,
# ROS 2 from PyPI. Says in one line what the machine lacks.
set -eu

python=$1
folder=$2

fail() {
  echo "ros2_loc: $1" >&2
  exit 1
}

ask() {
  "$python" -c "$1" 2>/dev/null
}

command -v "$python" >/dev/null || fail "$python not found: apt-get install python3 python3-venv python3-dev, or make PYTHON=/path/to/python3.12"
version=$(ask 'import sys; print("%d.%d" % sys.version_info[:2])') || fail "$python does not start: make PYTHON=/path/to/python3.12"
case $version in
  3.10 | 3.11 | 3.12 | 3.13) ;;
  *) fail "$python is Python $version, but 3.10 to 3.13 is needed: make PYTHON=/path/to/python3.12" ;;
esac

missing=""
ask 'import ensurepip, venv' || missing="$missing python$version-venv"
ask 'import os, sysconfig; os.stat(sysconfig.get_path("include") + "/Python.h")' || missing="$missing python$version-dev"
[ -z "$missing" ] || fail "this machine lacks what makes a venv or compiles the messages: apt-get install$missing"

# cv_bridge and OpenCV of a sourced ROS 2 lie among the system's packages.
system=""
[ -z "${AMENT_PREFIX_PATH:-}" ] || system=--system-site-packages

if [ -x "$folder/bin/python" ] && [ "$("$folder/bin/python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')" != "$version" ]; then
  echo "ros2_loc: $folder was made with another Python, making it anew with $version"
  rm -rf "$folder"
fi
echo "ros2_loc: installing into $folder (once: some minutes, about 8 GB, most of it PyTorch)"
"$python" -m venv $system "$folder"
"$folder/bin/python" -m pip install --disable-pip-version-check --prefer-binary '.[test]' ||
  fail "pip could not install ros2_loc: see its lines above; run the same command again once the cause is gone"
