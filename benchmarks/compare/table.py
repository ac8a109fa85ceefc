"""What make compare prints, in 120 columns."""
WIDTH = 120
BEST, SHARE = "Mica / the best of the others", "Mica's share of the peak"
UNITS = {"matmul": "GFLOP/s", "predict": "images/s", "cnn": "images/s", "mlp": "rows/s"}


def display(workload, case):
    """How a case is shown: its unit, and how many of it there are: "rate", units a second, or as it was measured."""
    if workload == "memory":
        return {"unit": "MB", "kind": "value"}
    if workload == "start":
        return {"unit": "seconds", "kind": "value"}
    if workload == "predict" and case == "1":
        return {"unit": "µs an image", "kind": "latency"}
    return {"unit": UNITS.get(workload, "tokens/s"), "kind": "rate"}


def shown(about, value):
    """A measurement in the case's unit."""
    kind = about["display"]["kind"]
    return about["units"] / value if kind == "rate" else value * 1e6 if kind == "latency" else value


def text(about, value):
    number = shown(about, value)
    return f"{number:,.0f}" if number >= 1000 else f"{number:,.1f}" if number >= 10 else f"{number:.2f}"


def best_peer(rows, case):
    """The row of the fastest (or smallest) of the others, or nothing."""
    measured = [row for row in rows[1:] if case in row["seconds"] and "failed" not in row]
    return min(measured, key=lambda row: row["seconds"][case], default=None)


def ratio(rows, case):
    best = best_peer(rows, case)
    mica = rows[0]["seconds"].get(case)
    return best["seconds"][case] / mica if best and mica else None


def share_of_peak(about, seconds, machine):
    return f"{about['flops'] / seconds / 1e9 / machine['peak_gflops']:.0%}" if "flops" in about and seconds else ""


def print_machine(results):
    machine = results["machine"]
    print(f"{machine['processor']}, {machine['threads']} threads, {machine['simd']}: "
          f"{machine['peak_gflops']:.0f} GFLOP/s of float32 at most, measured")
    print(", ".join(f"{name} {version}" for name, version in results["versions"].items()))


def print_workload(name, result, machine):
    cases, rows = result["cases"], result["rows"]
    print(f"\n{name}: {result['title']}")
    first = max(len(title) for title in (BEST, SHARE, *(row["peer"] for row in rows)))

    def line(title, values, note=""):
        print(f"  {title:{first}}{''.join(f'{value:>15}' for value in values)}{note}"[:WIDTH].rstrip())

    if len(cases) > 1:
        line("", cases)
    training = "losses" in rows[0]
    note = ""
    if training:
        note = f"{'loss, first':>16}{'after 20 steps':>16}"
    elif any("difference" in row for row in rows):
        note = f"{'off by':>10}"
    line("", [about["display"]["unit"] for about in cases.values()], note)
    for row in rows:
        if "error" in row:
            print(f"  {row['peer']:{first}}  {row['error']}"[:WIDTH])
            continue
        note = ""
        if training:
            note = f"{row['losses'][0]:16.4f}{row['losses'][-1]:16.4f}"
        elif "difference" in row:
            note = f"{row['difference']:10.0e}"
        if "failed" in row:
            note += "  FAILED"
        line(row["peer"], [text(about, row["seconds"][case]) if case in row["seconds"] else "-"
                           for case, about in cases.items()], note)
    ratios = [ratio(rows, case) for case in cases]
    line(BEST, [f"{r:.2f}" if r else "-" for r in ratios])
    if any("flops" in about for about in cases.values()):
        line(SHARE, [share_of_peak(about, rows[0]["seconds"].get(case), machine) for case, about in cases.items()])
    print(end="", flush=True)


def print_summary(results):
    line = "{:26}{:>14}{:>12}{:>12}{:>8}{:>7}   {}".format
    print("\n" + line("in short", "unit", "Mica", "best other", "ratio", "peak", "the best of the others"))
    for name, result in results["workloads"].items():
        rows = result["rows"]
        for case, about in result["cases"].items():
            mica, best = rows[0]["seconds"].get(case), best_peer(rows, case)
            if mica is None or best is None:
                continue
            print(line(f"{name} {case}" if len(result["cases"]) > 1 else name, about["display"]["unit"],
                       text(about, mica), text(about, best["seconds"][case]), f"{ratio(rows, case):.2f}",
                       share_of_peak(about, mica, results["machine"]), best["peer"]))
    print("The ratio says how many times as fast Mica is, or how many times as little it takes; the peak was "
          f"{results['machine']['peak_gflops']:.0f} GFLOP/s.\nShares of the peak count each multiplication of the "
          "definitions; Winograd's algorithm does fewer, and can pass 100 %.")


def failures(results):
    """What makes the comparison fail: a peer that does something else, and Mica where it does not run."""
    found = []
    for name, result in results["workloads"].items():
        found += [f"{name}: {row['peer']}: {row['failed']}" for row in result["rows"] if "failed" in row]
        found += [f"{name}: Mica: {row['error']}" for row in result["rows"][:1] if "error" in row]
    return found
