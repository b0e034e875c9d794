"""`run_graph.py map:=... bag:=...`: the processes of the graph under supervision, as `ros2-loc run` starts them."""

from __future__ import annotations

import sys

from ros2_loc import graph
from ros2_loc.supervisor import supervise

if __name__ == "__main__":
    given = dict(argument.split(":=", 1) for argument in sys.argv[1:])
    processes = graph.processes(graph.LOCALIZE, given)
    sys.exit(supervise(processes, graph.environment(), lambda line: sys.stderr.write(f"[run] {line}\n")))
