"""Tables 1, 2, 4-7 and Figures 1, 2 of Ji, Wu and Xi (2025), remade on our regions.

    python benchmarks/paper.py [PART ...] [--quick | --paper | --full] [--seeds 3] [--jobs CORES]
    python benchmarks/paper.py --report

The parts are the four regions, whose errors make Tables 1 and 2 (2x2-first, 2x2-second, 3x3,
16x16), and `patterns`, which takes the small networks of 2x2-first apart for Tables 4-7. Each is
written to results/paper.json as soon as it is done, in place of what was there, and the others are
kept. Then results/paper.md and its pictures are made from that file; `--report` does only this.

--quick  (default) a quarter of the recipe's steps, a tenth of skinv's epochs, 16×16 hardly begun:
         some five minutes of two cores
--paper  2×2 and 3×3 in full, 16×16 for some thousand steps: half an hour of two cores
--full   all in full but 3-FC on 16×16: there an hour or two on a core for each run, so one seed is
         enough (--seeds 1), and the recipe has no second schedule

Training runs are independent of each other, one for each network, method and seed, and run side by
side on the cores, a thread each; 16×16 runs on a GPU if there is one. How long each of them had the
processor is kept, and said where it matters.
"""

import argparse
import json
import os
import time
from datetime import date

import machine
import numpy as np
from cells import TITLES
from charts import COLORS, plt
from paper_recipe import (
    BATCH,
    CONSTANT,
    OURS,
    PERIODS,
    PLAIN,
    PUBLISHED,
    RATE,
    RECIPE,
    RELU,
    SCALES,
    WEIGHT_DECAY,
    networks,
    run_patterns,
    run_region,
)

from skinv.datasets import make_region
from skinv.inspection import SingularSetDisplay

# Gaps of coefficients, as shares of the largest one of L.
NEAR = (0.1, 0.25, 0.5)


# -- tables --------------------------------------------------------------------------------------


def read():
    path = machine.RESULTS / "paper.json"
    return json.loads(path.read_text()) if path.exists() else {}


def of(part, network, method):
    """Return the errors of all seeds, in the order of these."""
    chosen = [r for r in part["runs"] if (r["network"], r["method"]) == (network, method)]
    return np.array([r["error"] for r in sorted(chosen, key=lambda r: r["seed"])])


def mean_and_spread(values):
    if not len(values):
        return "–"
    spread = f" ± {np.std(values, ddof=1):.1e}" if len(values) > 1 else ""
    return f"{np.mean(values):.1e}{spread}"


def markdown(header, rows):
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def done(part, network, region):
    return f"{part['recipe_steps'][network]:,} of {PUBLISHED[region][2]:,}"


def table1(parts):
    """Errors of all methods on all regions, with their ratios to the linear ones."""
    chosen = [
        ("the centre's inverse for every matrix", None, "centre"),
        ("**linear approximation**", None, "linear"),
        ("second-order series", None, "second order"),
        ("2-FC, published recipe", "2-FC", RECIPE),
        ("3-FC, published recipe", "3-FC", RECIPE),
        ("2-FC, at a constant rate", "2-FC", CONSTANT),
        ("3-FC, at a constant rate", "3-FC", CONSTANT),
        ("skinv, `baseline=None`", "2-FC", PLAIN),
        ("skinv, defaults", "2-FC", OURS),
    ]
    rows = []
    for title, network, method in chosen:
        cells = []
        for part in parts.values():
            error, linear = of(part, network, method), of(part, None, "linear")
            ratio = f" ({np.mean(linear) / np.mean(error):.3g}×)" if len(error) else ""
            cells.append(mean_and_spread(error) + ratio)
        rows.append([title, *cells])
    for name in ("2-FC", "3-FC"):
        cells = [f"*{done(part, name, region)}*" for region, part in parts.items()]
        rows.append([f"*recipe's steps, {name}*", *cells])
    ours = ["".join(f"*{n:,} {k}*" for k, n in part["ours"].items()) for part in parts.values()]
    rows.append(["*skinv*", *ours])
    return markdown(["", *(TITLES[region] for region in parts)], rows)


TABLE2 = {
    RECIPE: "published recipe",
    CONSTANT: "at a constant rate",
    RELU: "skinv, ReLU, `baseline=None`, Levenberg-Marquardt",
    OURS: "skinv, else defaults",
}


def table2(part):
    linear = mean_and_spread(of(part, None, "linear"))
    rows = [["linear approximation", *[linear] * len(TABLE2)]]
    for name, layers in reversed(networks("2x2-first").items()):
        cells = [mean_and_spread(of(part, name, method)) for method in TABLE2]
        rows.append([f"{name} ({' + '.join(map(str, layers))} units)", *cells])
    return markdown(["", *TABLE2.values()], rows)


def orders(part, method):
    """Return for each seed the models in falling order of error, and if that is the published one.

    That is: linear above the small network, and this one above both larger ones.
    """
    errors = {"linear": of(part, None, "linear")}
    errors |= {name: of(part, name, method) for name in reversed(networks("2x2-first"))}
    found = []
    for seed in range(len(errors["linear"])):
        falling = sorted(errors, key=lambda name: -errors[name][seed])
        found.append((" > ".join(falling), falling[:2] == ["linear", "small 2-FC"]))
    return found


def order_table(part):
    rows = []
    for method, title in TABLE2.items():
        cells = [f"{'yes' if right else '**no**'}: {text}" for text, right in orders(part, method)]
        rows.append([title, *cells])
    return markdown(["", *(f"seed {seed}" for seed in range(len(rows[0]) - 1))], rows)


def pattern_table(rows, output, top=8):
    """One of Tables 4-7: pieces of one output, in the order of their shares."""

    def cells(pattern, share, rows):
        gap = max(row["gap"][output] for row in rows)
        return [
            pattern,
            f"{share:.2%}",
            f"{gap:.3f}",
            f"{max(r['largest'][output] for r in rows):.3f}",
        ]

    lines = [cells(f"`{row['pattern']}`", row["share"], [row]) for row in rows[:top]]
    if rest := rows[top:]:
        share = sum(row["share"] for row in rest)
        lines.append(cells(f"{len(rest)} more: sum and worst", share, rest))
    return markdown(
        ["pattern", "share of the box", "gap of coefficients", "largest \\|f − L\\|"], lines
    )


def near(network, share, largest):
    """Return the share of the box in pieces whose coefficients are all near those of L."""
    return sum(r["share"] for r in network["rows"] if max(r["gap"]) <= share * largest)


def coverage_table(found, largest):
    titles = {k: v for k, v in TABLE2.items() if k != OURS}
    rows = []
    for network in sorted(found, key=lambda n: (list(titles).index(n["method"]), n["seed"])):
        top = max(network["rows"], key=lambda row: row["share"])
        rows.append(
            [
                titles[network["method"]], str(network["seed"]), f"{network['error']:.1e}",
                str(len(network["rows"])), f"{top['share']:.1%}", f"{max(top['gap']):.3f}",
                *(f"{near(network, share, largest):.1%}" for share in NEAR),
            ]
        )  # fmt: skip
    header = ["network of 8 units", "seed", "error", "pieces", "largest: share", "its gap"]
    return markdown([*header, *(f"gap ≤ {share:.0%}" for share in NEAR)], rows)


# -- report --------------------------------------------------------------------------------------


def chart(parts, path):
    """Plot the errors of Tables 1 and 2, relative to those of the first order."""
    styles = {
        RECIPE: ("published recipe", "o", COLORS[1]),
        CONSTANT: ("at a constant rate", "s", COLORS[4]),
        RELU: ("skinv, ReLU, no baseline", "v", COLORS[5]),
        PLAIN: ("skinv, no baseline", "^", COLORS[2]),
        OURS: ("skinv, defaults", "D", COLORS[0]),
    }
    places = [(r, n) for r in parts for n in reversed(networks(r))]
    figure, ax = plt.subplots(figsize=(10, 5), constrained_layout=True)
    for k, (method, (label, marker, color)) in enumerate(styles.items()):
        for x, (region, network) in enumerate(places):
            values = of(parts[region], network, method)
            if len(values):
                ratio = values / of(parts[region], None, "linear")[: len(values)]
                place = np.full(len(ratio), x + 0.12 * (k - 2))
                ax.plot(place, ratio, marker, color=color, ms=6, mfc="none", label=label)
                label = None
    ax.axhline(1, color="0.3", lw=1)
    ax.text(
        0.99, 1, "linear approximation", ha="right", va="bottom", color="0.3",
        transform=ax.get_yaxis_transform(),
    )  # fmt: skip
    shares = [parts[r]["recipe_steps"][network] / PUBLISHED[r][2] for r, network in places]
    labels = [
        f"{TITLES[r]}\n{network}\n{share:.2g} of steps"
        for (r, network), share in zip(places, shares, strict=True)
    ]
    ax.set_xticks(range(len(places)), labels, fontsize="small")
    ax.set(yscale="log", ylabel="mean absolute error ÷ that of the linear approximation")
    ax.grid(True, axis="y", color="0.9")
    ax.set_axisbelow(True)
    figure.legend(
        loc="outside lower center",
        ncols=5,
        frameon=False,
        title="one mark per seed; the recipe was given that share of its published steps",
    )
    figure.savefig(path, dpi=110)
    plt.close(figure)


def singular_set():
    """Draw Figures 1 and 2; return the width of the neighbourhood."""
    sampler = make_region("2x2-first", random_state=0).sampler
    for number, kind in enumerate(("slices", "3d"), 1):
        display = SingularSetDisplay.from_sampler(sampler, kind=kind)
        display.figure_.savefig(
            machine.RESULTS / f"paper_figure{number}.png", dpi=110, bbox_inches="tight"
        )
        plt.close(display.figure_)
    return display.epsilon


def region_table():
    rows = []
    for name in PUBLISHED:
        region = make_region(name, random_state=0)
        center = "; ".join(", ".join(f"{a:g}" for a in row) for row in region.center)
        shown = f"[{center}]" if len(region.center) < 4 else "random, in `skinv.datasets`"
        share = region.radius / region.distance["linf"]
        width, n_matrices, steps = PUBLISHED[name]
        data = f"{n_matrices:,}" if n_matrices else "fresh in every step"
        rows.append(
            [TITLES[name], shown, f"{region.radius:.4g}", f"{share:.1g}", f"{width}", data,
             f"{steps:,}"]
        )  # fmt: skip
    header = ["region", "centre A₀ (ours)", "half-width δ (ours)", "δ / d_∞", "units per layer"]
    return markdown([*header, "training matrices", "steps"], rows)


def scale_table(results):
    rows = []
    for name, part in results.items():
        where = part["machine"]
        on = where["cuda"] if part.get("device") == "cuda" else where["processor"]
        on = f"{on}, {where['cores']} cores, torch {where['torch']}"
        rows.append([name, f"`--{part['mode']}`", part["date"], on, f"{part['minutes']:.1f}"])
    return markdown(["part", "scale", "date", "machine", "minutes"], rows)


def win_table(parts):
    """In how many seeds each network is better than the first order."""
    places = [(region, name) for region in parts for name in reversed(networks(region))]
    rows = []
    for method in (RECIPE, CONSTANT):
        cells = []
        for region, name in places:
            error = of(parts[region], name, method)
            wins = error < of(parts[region], None, "linear")[: len(error)]
            cells.append(f"{wins.sum()} of {len(wins)}" if len(wins) else "–")
        rows.append([TABLE2[method], *cells])
    return markdown(["", *(f"{TITLES[region]} {name}" for region, name in places)], rows)


INTRODUCTION = """\
# The experiment of Ji, Wu and Xi (2025) on skinv's regions

Written by `benchmarks/paper.py`; every run is in [`paper.json`](paper.json).

*Rethinking Neural-based Matrix Inversion: Why can't, and Where can* trains fully connected ReLU
networks on matrices A that are uniform in a box |A − A₀| < δ around a regular centre A₀, to return
A⁻¹. "2-FC" has two linear layers, so one hidden layer, "3-FC" has three. They are held against the
linear approximation L(A) = 2 A₀⁻¹ − A₀⁻¹ A A₀⁻¹, which needs no training. Errors are mean absolute
errors over the entries of the inverses of 10,000 unseen matrices, here as mean ± standard deviation
over {seeds}. Each has its own training and test matrices, the same for all methods (on 16×16,
where training matrices are drawn on the way, the same test matrices).

## What can be compared with the paper, and what cannot

* **No error below can be held against one printed in the paper.** Its centres A₀ and half-widths δ
  are not legible in the record at hand, and neither are its errors; A₀ and δ below are skinv's own
  (δ a stated share of d_∞, the centre's distance to the singular matrices). That goes for the
  figures of Tables 1 and 2, for shares, coefficients and maxima of Tables 4–7, and for where
  things are in Figures 1 and 2.
* Nor can errors of two regions be held against each other: they depend on δ as they do on n.
* What can be compared are orders and ratios within a column.
* Table 3, of times, is remade in [`inference.json`](inference.json)
  ([chart](inference_table3.png)).

{regions}

## The recipe, and what is not known of it

As published: Adam, learning rate {rate:.0e}, weight decay {decay:.0e}, mean squared error, batches
of {batch}; steps, matrices and units as above (2×2: 20 epochs). Published as well, but without its
periods: cosine annealing with warm restarts. Ours are {periods} periods of equal length in every
run, however long. Because that is a guess, all is also run at a constant rate, which did better in
the one run for each region in [`training.json`](training.json), there with other periods. In plain
torch, with its fused Adam, on preloaded tensors; entries go in and inverses come out unscaled.

Beside it, on the same matrices: `NeuralInverseRegressor` with its defaults (2-FC of the same width,
but SiLU units on the better one of an affine and a second-order baseline; Levenberg-Marquardt, Adam
on 16×16, where its matrices are fresh too, 256 a step), and without the baseline.

The scale of what is shown. Minutes are of all runs side by side, on a machine that may have had
other work:

{scale}
"""


def report():
    """Write paper.md and its pictures from paper.json."""
    results = {k: part for k, part in read().items() if k in PARTS}
    parts = {region: results[region] for region in PUBLISHED if region in results}
    if not parts:
        raise SystemExit("results/paper.json has no errors yet: run the part of a region first.")
    results = {name: results[name] for name in PARTS if name in results}
    seeds = {len(of(part, None, "linear")) for part in parts.values()}
    introduction = INTRODUCTION.format(
        seeds=" or ".join(f"{n} seeds" for n in sorted(seeds)),
        regions=region_table(),
        rate=RATE,
        decay=WEIGHT_DECAY,
        batch=BATCH,
        periods=PERIODS,
        scale=scale_table(results),
    )
    chart(parts, machine.RESULTS / "paper_tables.png")
    text = [introduction, section1(parts)]
    if "2x2-first" in parts:
        text.append(section2(parts["2x2-first"]))
    if "patterns" in results:
        text.append(section4(results["patterns"]))
    text.append(FIGURES.format(epsilon=singular_set()))
    (machine.RESULTS / "paper.md").write_text("\n".join(text))
    print("wrote paper.md and its pictures")


def scale_note(parts):
    """Warn of recipes that were cut short, and say how long runs of hours took."""
    short = [
        f"{TITLES[region]} {network}"
        for region, part in parts.items()
        for network, steps in part["recipe_steps"].items()
        if steps < PUBLISHED[region][2]
    ]
    text = (
        f"**Not in full:** {', '.join(short)}. There the recipe was given fewer steps than "
        f"published (see the rows of steps), at the published rate: its errors do not say where it "
        f"ends.\n\n"
    )
    found = [
        f"{run['network']}, {run['method']}: {run['seconds'] / 60:.0f}"
        for run in parts.get("16x16", {"runs": ()})["runs"]
        if run.get("seconds", 0) > 600
    ]
    times = f"Minutes of one core for 16×16: {'; '.join(found)}.\n\n" if found else ""
    return (text if short else "") + times


def section1(parts):
    return f"""\
## Table 1: errors of 2-FC and 3-FC

In brackets: how many times smaller than the error of the linear approximation (below 1: larger).

{table1(parts)}

{scale_note(parts)}\
Where an affine map is worse on the training data the defaults of skinv begin with the second-order
series, and the network learns what that leaves: how much it adds is told by the two rows. Without a
baseline it has to learn all.

The paper reports that networks beat the linear approximation. In how many seeds they do here:

{win_table(parts)}

It also reports that the error grows with n. The errors here cannot tell, for δ is another one in
each region; the ratios in brackets are what there is to look at.

![Errors relative to the linear approximation](paper_tables.png)
"""


def section2(part):
    return f"""\
## Table 2: linear approximation, small and larger networks on 2×2 first

The small network has 2n² = 8 hidden units, just as many as it takes to be the linear approximation
everywhere. Steps of the recipe: {done(part, "2-FC", "2x2-first")}; epochs of skinv:
{part["ours"]["epochs"]} of 100.

{table2(part)}

The order that the paper reports is linear > small 2-FC > 2-FC and 3-FC. Did it come out?

{order_table(part)}
"""


def section4(part):
    B = np.linalg.inv(make_region("2x2-first", random_state=0).center)
    largest = np.abs(np.kron(B, B.T)).max()
    found = part["networks"]
    recipe = [n for n in found if n["method"] == RECIPE]
    shown = next(n for n in recipe if n["seed"] == 0)
    shares = [near(network, 0.25, largest) for network in recipe]
    wins = sum(share > 0.5 for share in shares)
    tables = []
    for output, number in enumerate(range(4, 8)):
        i, j = divmod(output, 2)
        tables.append(f"### Table {number}: entry ({i + 1}, {j + 1}) of the inverse\n")
        tables.append(pattern_table(shown["rows"], output) + "\n")
    return f"""\
## Tables 4–7: the small network, piece by piece

A ReLU network is affine, f(a) = C a + c on the flattened matrix a, wherever the same hidden units
are on; a pattern has a 1 for each unit that is. Per pattern: its share of {part["samples"]:,}
matrices of the box; the largest difference of the output's row of C from that of L; and the largest
|f − L| of this output over all matrices with that pattern, by linear programs. L's own largest
coefficient is {largest:.2f}. The network shown is that of seed 0 by the published recipe
({part["steps"]:,} of {PUBLISHED["2x2-first"][2]:,} steps; error {shown["error"]:.1e}).

{chr(10).join(tables)}
### All small networks

How many pieces they have; the largest one, with its gap over all four outputs; and the share of the
box in pieces with a gap of at most 10, 25 and 50 % of L's largest coefficient. For comparison, the
derivative of the inverse itself is off L's coefficients by {part["inverse_gap"]:.2f} or more in
half of the box.

{coverage_table(found, largest)}

The paper reports that the small network is a slightly refined L on most of the box. Taken as a gap
of at most a quarter of L's largest coefficient on more than half of the box, that came out in
{wins} of {len(recipe)} runs of the recipe ({", ".join(f"{share:.0%}" for share in shares)}).
"""


FIGURES = """\
## Figures 1 and 2: where the singular matrices are

Drawn by `skinv.inspection.SingularSetDisplay` for our region 2×2 first, after the paper's figures:
not copies of these. The singular matrices, those nearer to one than ε = {epsilon:.3f} (smallest
singular value; our choice, a quarter of the centre's distance), and the region.

Figure 1, two slices:

![Singular set in two slices](paper_figure1.png)

Figure 2, three entries:

![Singular set in three dimensions](paper_figure2.png)
"""

PARTS = (*PUBLISHED, "patterns")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], metavar="PART")
    modes = parser.add_mutually_exclusive_group()
    for mode in SCALES:
        modes.add_argument(f"--{mode}", dest="mode", action="store_const", const=mode)
    modes.add_argument("--report", action="store_true", help="train nothing")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    args = parser.parse_args()
    args.mode = args.mode or "quick"
    for name in () if args.report else args.parts or PARTS:
        start = time.perf_counter()
        before = read()
        before.pop("machine", None)
        if name == "patterns":
            if "2x2-first" not in before:
                raise SystemExit("patterns needs the networks of 2x2-first: run that part first.")
            part = run_patterns(before["2x2-first"], args.jobs)
        else:
            part = run_region(name, SCALES[args.mode], args.seeds, args.jobs)
        part |= {
            "mode": args.mode, "date": date.today().isoformat(), "machine": machine.describe(),
            "minutes": (time.perf_counter() - start) / 60,
        }  # fmt: skip
        if name == "patterns":  # it is the networks' scale that counts
            part |= {key: before["2x2-first"][key] for key in ("mode", "date")}
        elif name == "2x2-first":  # whose networks have been taken apart
            before.pop("patterns", None)
        machine.write("paper", before | {name: part})
    report()


if __name__ == "__main__":
    main()
