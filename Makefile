# make demo        a synthetic town, mapped and localized through real ROS 2 nodes (ARGS="--kitti DIR" for real frames)
# make test        the quick tests, ruff and mypy
# make test-slow   the tests of whole runs
# Each makes .venv first where it is not up to date. PYTHON=python3.12 picks the Python, ARGS="-k map" reaches ros2-loc or pytest.

PYTHON ?= python3
VENV ?= .venv
VERSION := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)
INSTALLED := $(VENV)/installed-$(VERSION)
# What the installed package is compiled from; Python, launch and config files are read from the checkout.
SOURCES := scripts/make_venv.sh setup.py pyproject.toml requirements.txt package.xml CMakeLists.txt \
  $(wildcard cmake/* msg/* interfaces/*/* interfaces/*/msg/*)

# ament_index and launch look for packages here; a sourced ROS 2 stays in front of the venv.
IN_VENV = PATH="$(abspath $(VENV))/bin:$$PATH" VIRTUAL_ENV="$(abspath $(VENV))" PYTHONPATH="$(CURDIR)$${PYTHONPATH:+:$$PYTHONPATH}" \
  AMENT_PREFIX_PATH="$${AMENT_PREFIX_PATH:+$$AMENT_PREFIX_PATH:}$(abspath $(VENV))"

# ROS wheels of another environment leave these behind in the processes that they start.
ifdef _ROS_WHEELS_BOOTSTRAP_COMPLETE
unexport _ROS_WHEELS_BOOTSTRAP_COMPLETE LD_LIBRARY_PATH AMENT_PREFIX_PATH
endif

.PHONY: install demo test style types quick test-slow clean
.DEFAULT_GOAL := test

install: $(INSTALLED)

$(INSTALLED): $(SOURCES)
	@sh scripts/make_venv.sh "$(PYTHON)" "$(VENV)"
	@touch $@

demo: install
	@$(IN_VENV) ros2-loc demo $(ARGS)

# `make -k test` goes on to the next of these three when one has failed.
test: style types quick

style: install
	@$(IN_VENV) ruff check .

types: install
	@$(IN_VENV) mypy

quick: install
	@$(IN_VENV) python -m pytest $(ARGS)

test-slow: install
	@$(IN_VENV) python -m pytest -m slow $(ARGS)

clean:
	rm -rf build *.egg-info $(VENV)
