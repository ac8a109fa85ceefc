"""The table of mica_device and pytorch.py, as Markdown: table.py mica.json [pytorch.json]."""
import json
import pathlib
import sys

mica = json.loads(pathlib.Path(sys.argv[1]).read_text())
peer = pathlib.Path(sys.argv[2]) if len(sys.argv) > 2 else None
peer = json.loads(peer.read_text()) if peer and peer.exists() else None
times = peer["milliseconds"] if peer else {}

print(f"{mica['device']}, float32" + (f"; {peer['versions']}" if peer else "") + ".\n")
print("| case | Mica, ms | GB/s | of the copy | GFLOP/s | PyTorch, ms | Mica is |")
print("| --- | --- | --- | --- | --- | --- | --- |")
cases = {case["name"]: case for case in mica["cases"]}
copy = cases["copy"]["bytes"] / cases["copy"]["milliseconds"]
for name, case in cases.items():
    milliseconds, other = case["milliseconds"], times.get(name)
    cells = [name, f"{milliseconds:.4f}", "", "", "", "", ""]
    if case["bytes"]:  # where the data's way through memory is most of the work
        cells[2] = f"{case['bytes'] / milliseconds / 1e6:.0f}"
        cells[3] = f"{100 * case['bytes'] / milliseconds / copy:.0f} %"
    if case["flops"]:
        cells[4] = f"{case['flops'] / milliseconds / 1e6:.0f}"
    if other:
        cells[5], cells[6] = f"{other:.4f}", f"{other / milliseconds:.2f}x"
    print("| " + " | ".join(cells) + " |")
