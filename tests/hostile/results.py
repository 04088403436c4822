"""What the tries ended in, by command and kind, for the table at the end of a run."""

from collections import Counter

RESULTS: Counter[tuple[str, str, str]] = Counter()  # (command, kind, outcome)
FILES_VARIABLE = "HOSTILE_FILES"  # of the environment: number of files to fuzz; set, it adds what is slow
PROPERTY = "hostile"  # of a test report, which also comes back from the workers of pytest-xdist


def table(results: Counter[tuple[str, str, str]]) -> list[str]:
    """Return the lines of a table: for each command and kind, how many were tried, clear, accepted and wrong."""
    groups = sorted({(command, kind) for command, kind, _ in results})
    commands, kinds = (list(dict.fromkeys(x)) for x in zip(*groups, strict=True))
    width = max(map(len, commands)) + 2
    kinds = sorted(kinds)
    lines = ["tried / clear / accepted / wrong", " " * width + "  ".join(f"{kind:>12}" for kind in [*kinds, "all"])]
    for command in [*commands, "all"]:
        cells = []
        for kind in [*kinds, "all"]:
            found: Counter[str] = Counter()
            for (c, k, outcome), count in results.items():
                if command in (c, "all") and kind in (k, "all"):
                    found[outcome] += count
            cells.append("/".join(str(found[x]) for x in ("clear", "accepted", "wrong")) if found else "")
            if found:
                cells[-1] = f"{sum(found.values())}/{cells[-1]}"
        lines.append(f"{command:{width}}" + "  ".join(f"{cell:>12}" for cell in cells))
    return lines
