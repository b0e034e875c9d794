"""`ros2-loc doctor`: looks for what is wrong, says it in a line, and what to do."""

from __future__ import annotations

import argparse
from pathlib import Path

from ros2_loc.cli.arguments import Parser, add_pipeline, pipeline_of

EXAMPLE = "ros2-loc doctor\n  ros2-loc doctor --map town_map --bag second_drive_bag"


def add_arguments(parser: Parser) -> None:
    """A map and a bag to look at as well."""
    parser.add_argument("--map", type=Path, metavar="DIR", help="look at this map too, and whether the pipeline fits it")
    parser.add_argument("--bag", type=Path, metavar="BAG", help="look at this bag too: topics, calibration, TF, clock, QoS")
    parser.add_argument("--image-topic", metavar="TOPIC", help="the camera in the bag, where it has several")
    parser.add_argument("--quiet", action="store_true", help="only what is worth knowing and what is wrong")
    add_pipeline(parser)


def run(arguments: argparse.Namespace) -> int:
    """Look, report, and return 1 when something is wrong."""
    from ros2_loc.cli.checks import Finding, Mark, bad, check_map, good, report
    from ros2_loc.cli.system_checks import check_middleware, check_networks, check_packages, check_system
    from ros2_loc.cli.weight_checks import check_weights
    from ros2_loc.errors import Ros2LocError

    findings: list[Finding] = [*check_packages(), *check_networks(), *check_system(), *check_middleware()]
    try:
        pipeline = pipeline_of(arguments)
        findings.append(good("pipeline", f"{arguments.pipeline}: its settings are right"))
        findings += check_weights(pipeline)
        findings += check_map(arguments.map, pipeline) if arguments.map else []
    except Ros2LocError as error:
        findings.append(bad("pipeline", str(error)))
    if arguments.bag:
        from ros2_loc.cli.bag_checks import check_bag

        findings += check_bag(arguments.bag, arguments.image_topic, arguments.map)
    wrong = sum(finding.mark is Mark.BAD for finding in findings)
    print(report([f for f in findings if not (arguments.quiet and f.mark is Mark.GOOD)]))
    print(f"\n{wrong} of {len(findings)} checks failed" if wrong else f"\nnothing is wrong ({len(findings)} checks)")
    return 1 if wrong else 0
