"""The tables of an evaluation of retrieval as text cells, for a terminal and for a page alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ros2_loc.evaluation import retrieval_metrics as rm
from ros2_loc.evaluation.cross_view_tables import Cells, TextTable
from ros2_loc.evaluation.retrieval_paper import published
from ros2_loc.evaluation.retrieval_records import RetrievalCell, RetrievalEvaluation, parts_s, rerank_s, summary

SURE = 0.9  # a confidence from which the first place counts as certain


def tables(evaluation: RetrievalEvaluation) -> list[TextTable]:
    """Of each data set: recall and the sweep; then times and memory of all."""
    found = []
    for cells in by_dataset(evaluation).values():
        found.append(recall_table(cells))
        if any(summary(cell)["sweep"] for cell in cells if cell.facts.get("evidence_bytes")):
            found.append(sweep_table(cells))
        if any(is_adaptive(cell) for cell in cells):
            found.append(adaptive_table(cells))
    return [*found, time_table(evaluation.cells), memory_table(evaluation.cells)] if found else []


def by_dataset(evaluation: RetrievalEvaluation) -> dict[str, list[RetrievalCell]]:
    """Cells by the name of their data set, in order."""
    found: dict[str, list[RetrievalCell]] = {}
    for cell in evaluation.cells:
        found.setdefault(cell.dataset, []).append(cell)
    return found


def is_adaptive(cell: RetrievalCell) -> bool:
    """Whether it re-ranked only as far as needed."""
    return any(r.why for r in cell.results)


def recall_table(cells: Sequence[RetrievalCell]) -> TextTable:
    """R@N: a row for each method, and for each domain where there are several (as table 4.1 of the paper)."""
    domains = list(dict.fromkeys(d for cell in cells for d in cell.domains))
    rows: list[Cells] = []
    for domain in [*domains, ""] if len(domains) > 1 else [""]:
        for cell in (c for c in cells if not is_adaptive(c)):
            s = summary(cell, domain)
            shown = domain or "all"
            if cell.not_run:
                rows += [] if domain else [(cell.method, *[""] * (len(rm.RECALL_AT) + 2), f"not run: {cell.not_run}")]
                continue
            low_high = "-" if s["interval"] is None else f"{100 * s['interval'][0]:.1f} to {100 * s['interval'][1]:.1f}"
            paper = published(cell.method, cell.dataset, domain or (domains[0] if len(domains) == 1 else "")) or {}
            recalls = [_percent(s["recall"][n]) + (f" ({paper[n]:.1f})" if n in paper else "") for n in rm.RECALL_AT]
            rows.append((cell.method, shown, str(s["queries"]), recalls[0], low_high, *recalls[1:]))
    header = ("", "of", "queries", "R@1", "95 %", *(f"R@{n}" for n in rm.RECALL_AT[1:]))
    return TextTable(f"{cells[0].dataset}: recall", header, tuple(rows), _recall_note(cells))


def sweep_table(cells: Sequence[RetrievalCell]) -> TextTable:
    """R@1 by the number of re-ranked candidates, as figure 4.8, with the best that could be reached (R@K of the retriever)."""
    counts = rm.sweep_counts(cells[0].candidates)
    rows: list[Cells] = []
    for cell in (c for c in cells if c.results and not is_adaptive(c)):
        s = summary(cell)
        if cell.facts.get("evidence_bytes"):
            rows.append((cell.method, *(_percent(s["sweep"].get(k)) for k in counts)))
        else:
            bound = (_percent(rm.recall_at([r.right for r in cell.results], k)) for k in counts)
            rows.append((f"upper bound: R@K of {cell.method}", *bound))
    note = "R@1 in % when the first K candidates are re-ranked and the others stay behind; from the scores of one run."
    return TextTable(f"{cells[0].dataset}: R@1 by candidates", ("", *(f"K = {k}" for k in counts)), tuple(rows), note)


def adaptive_table(cells: Sequence[RetrievalCell]) -> TextTable:
    """What is saved by re-ranking only as far as needed, what it costs, and whether it knows when it is wrong."""
    whole = {cell.method: cell for cell in cells}
    rows: list[Cells] = []
    for cell in (c for c in cells if is_adaptive(c)):
        always = whole[cell.method.rpartition(",")[0]]
        reasons = [r.why for r in cell.results]
        sure = [r.right[:1] == (True,) for r in cell.results if (r.confidence or 0.0) >= SURE]
        rows.append(
            (
                cell.method,
                f"{_percent(summary(cell)['recall'][1])} ({_percent(summary(always)['recall'][1])})",
                f"{np.mean([r.num_scored for r in cell.results]):.1f} of {cell.candidates}",
                f"{_mean_ms(cell):.0f} ({_mean_ms(always):.0f})",
                ", ".join(f"{word} {reasons.count(word)}" for word in dict.fromkeys(reasons)),
                f"{_percent(len(sure) / len(reasons))}",
                _percent(float(np.mean(sure)) if sure and cell.has_truth else None),
            )
        )
    header = ("", "R@1 (always)", "compared", "ms (always)", "ended because: queries", "sure", "of these right")
    note = (
        "always: every candidate is compared. compared: candidates of a query, mean. ms: of re-ranking a query, mean. "
        f"sure: % of queries with a confidence of {SURE:g} and more."
    )
    return TextTable(f"{cells[0].dataset}: adaptive re-ranking", header, tuple(rows), note)


def time_table(cells: Sequence[RetrievalCell]) -> TextTable:
    """Medians on this machine."""
    rows: list[Cells] = []
    for cell in (c for c in cells if c.results and not is_adaptive(c)):
        t = summary(cell)["seconds"]
        shown = [_ms(s) if part == "retrieve" or cell.facts.get("evidence_bytes") else "" for part, s in parts_s(t).items()]
        whole = [_ms(rerank_s(t)), _ms(all_described_s(cell))] if cell.facts.get("evidence_bytes") else ["", ""]
        rows.append((cell.method, cell.dataset, str(cell.candidates), *shown, *whole))
    header = ("", "data", "candidates", "retrieve", "extraction", "matching", "scoring", "re-rank", "re-rank, nothing stored")
    note = (
        "Median ms of a query. extraction: of the query alone (local features that the retriever is made of are there already); "
        "re-rank: extraction, matching and scoring of all candidates, whose descriptions are stored with the map; nothing stored: "
        "with the extraction of each candidate, as the paper counts in figure 4.7."
    )
    return TextTable("Time", header, tuple(rows), note)


def all_described_s(cell: RetrievalCell) -> float:
    """Re-ranking of a query when candidates must be described, too (paper, figure 4.7)."""
    return rerank_s(summary(cell)["seconds"]) + cell.candidates * cell.facts.get("candidate_s", 0.0)


def memory_table(cells: Sequence[RetrievalCell]) -> TextTable:
    """Of a database image."""
    rows: list[Cells] = []
    for cell in (c for c in cells if c.results and not is_adaptive(c)):
        vector, evidence = cell.facts.get("descriptor_bytes", 0.0), cell.facts.get("evidence_bytes", 0.0)
        total_mb = cell.facts.get("places", 0.0) * (vector + evidence) / 1e6
        rows.append((cell.method, cell.dataset, f"{vector / 1e3:.1f}", f"{evidence / 1e3:.1f}" if evidence else "", f"{total_mb:.1f}"))
    note = "kB of a database image: its global descriptor, and what the re-ranker compares (mean). MB: of the whole database."
    return TextTable("Memory", ("", "data", "descriptor kB", "evidence kB", "total MB"), tuple(rows), note)


def failures(cells: Sequence[RetrievalCell], most: int = 20) -> TextTable:
    """Queries whose first place is wrong to a method, those first that most methods fail on."""
    measured = [cell for cell in cells if cell.results and cell.has_truth]
    wrong: dict[str, list[str]] = {}
    for cell in measured:
        for r in cell.results:
            if r.positives and r.right[:1] != (True,):
                wrong.setdefault(f"{r.domain}: {r.name}", []).append(cell.method)
    ordered = sorted(wrong.items(), key=lambda item: -len(item[1]))
    rows = tuple((name, f"{len(methods)} of {len(measured)}", ", ".join(methods)) for name, methods in ordered[:most])
    more = f" {len(ordered) - most} more are in the JSON file." if len(ordered) > most else ""
    title = f"{cells[0].dataset}: first place wrong"
    return TextTable(title, ("query", "methods", ""), rows, f"Queries with a right place in the database.{more}")


def _recall_note(cells: Sequence[RetrievalCell]) -> str:
    measured = [cell for cell in cells if cell.results]
    if not any(cell.has_truth for cell in measured):
        return "No truth is known: places were retrieved and are shown, but not judged."
    places, candidates = int(measured[0].facts.get("places", 0)), cells[0].candidates
    without = sum(not r.positives for r in measured[0].results)
    note = f"In %: queries with a right place ({cells[0].rule}) among the first N of {candidates} candidates from {places} places"
    note += ". 95 %: Wilson's interval of R@1."
    if candidates < rm.RECALL_AT[-1]:
        note += f" R@{rm.RECALL_AT[-1]} is of all {candidates}: no re-ranking can be better."
    else:
        note += f" R@{rm.RECALL_AT[-1]} of the retriever is what no re-ranking can exceed."
    if any(published(cell.method, cell.dataset, domain) for cell in measured for domain in ("", *cell.domains)):
        note += " In brackets: the paper's table 4.1."
    if without:
        note += f" {without} queries have no right place in the database and count as failed, as the field does."
    return note


def _mean_ms(cell: RetrievalCell) -> float:
    return 1000 * float(np.mean([rerank_s(r.stage_s) for r in cell.results]))


def _percent(value: Any) -> str:
    return "-" if value is None else f"{100 * value:.1f}"


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:.1f}" if seconds < 10 else f"{1000 * seconds:.0f}"
