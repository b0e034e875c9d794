"""ROS for one test: a context in a DDS domain of its own, and a way to spin."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

_domains = itertools.cycle(range(120, 220))


@pytest.fixture
def domain() -> Iterator[int]:
    """rclpy, initialized in a domain that no other test of this run uses."""
    rclpy = pytest.importorskip("rclpy", reason="needs rclpy: pip install . on x86-64 Linux, or a ROS 2 workspace")
    number = next(_domains)
    rclpy.init(domain_id=number)
    yield number
    rclpy.try_shutdown()


@pytest.fixture
def make_node(domain: int) -> Iterator[Callable[..., Any]]:
    """Makes nodes that are gone after the test: `make_node(name, **options)`."""
    from rclpy.node import Node

    nodes: list[Any] = []

    def make(name: str = "test_node", **options: Any) -> Any:
        nodes.append(Node(name, **options))
        return nodes[-1]

    yield make
    for node in nodes:
        node.destroy_node()


@pytest.fixture
def spin_until() -> Callable[..., bool]:
    """`spin_until(condition, *nodes, timeout_s=10)`: runs the nodes' callbacks until the condition holds; whether it did."""

    def spin(condition: Callable[[], bool], *nodes: Any, timeout_s: float = 10.0) -> bool:
        from rclpy.executors import SingleThreadedExecutor

        executor = SingleThreadedExecutor()
        for node in nodes:
            executor.add_node(node)
        end = time.monotonic() + timeout_s
        while not condition() and time.monotonic() < end:
            executor.spin_once(timeout_sec=0.05)
        executor.shutdown()
        return condition()

    return spin
