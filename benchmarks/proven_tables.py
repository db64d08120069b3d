"""Tables and sentences of proofs: what they cost, how they scale, how often one was wrong."""

from cells import TITLES, load, markdown, ranged, short

# Orders of which the README tells.
ORDERS = ("3", "6", "12", "32")
# What the guide shows of worst residuals over slices.
SLICES = [("case9", 3), ("case9", 6), ("case30", 3)]
SLICED = ["series of order 2", "polynomial of degree 3", "polynomial", "network", "ReLU network"]
EXPLAINED = {
    "few": "batch of ",
    "garbage": "guesses that prove nothing, ",
    "complex": "complex ",
}


def overview():
    """Return the table of the README: what proven answers cost, one of each kind."""
    prices, front = load("prices"), load("front")
    learned, single = prices["learned"], list(prices["single"].values())
    solved = {case["family"]: case["ratio_to_numpy"] for case in load("solves")["solves"]}
    small = [front["orders"][n]["ratios"]["skinv.inv"]["numpy.linalg.inv"] for n in ORDERS]
    nine, thirty = (learned[case]["to 1e-08"] for case in ("case9, n = 14", "case30, n = 53"))
    few = prices["few"]["50 symmetric 8 x 8"]["certified"]
    rows = [
        ("learned, 32 terms, 9-bus grid, n = 14, to 1e-8", "inv", nine),
        ("learned, 32 terms, 30-bus grid, n = 53, to 1e-8", "inv", thirty),
        ("solutions near that grid, to 1e-6", "solve", solved["case30, polynomial"]["certified"]),
        (f"`skinv.inv`, n = {' / '.join(ORDERS)}", "inv", *small),
        ("`skinv.pinv`, 6 × 7, in batches", "pinv", front["6 x 7"]["ratios"]["skinv.pinv"]),
        ("guesses that prove nothing, n = 20", "inv", prices["garbage"]["n = 20"]["certified"]),
        ("batches of 50 matrices, n = 8", "inv", few),
        ("one matrix at a time, n = 8, to 1e-10 by two steps", "inv", single[2]),
    ]
    return markdown(
        ["proven answers, one thread", "beside plain", "times as long"],
        [
            [title, f"`numpy.linalg.{name}`", " / ".join(short(f["median"]) for f in figures)]
            for title, name, *figures in rows
        ],
    )


def violations():
    """Return the table of the README: bounds held against exact errors."""
    results = load("violations")
    matrices = results["by_order_and_dtype"].values()
    attacks = results["by_family_and_mode"].values()
    norms = ("finite cheap bounds", "finite sharp bounds", "finite certified bounds")
    finite = sum(row[key] for row in matrices for key in norms)
    wrong = sum(row["violations"] for row in attacks)
    rows = [
        ["hostile matrices of order 1 to 32, single and double precision",
         sum(row["matrices"] for row in matrices), finite, results["violations"] - wrong],
        ["hostile regressors, families, regions, units, floating-point modes",
         sum(row["tried"] for row in attacks), sum(row["finite"] for row in attacks), wrong],
    ]  # fmt: skip
    return markdown(
        ["held against exact errors", "tried", "bounds", "violated"],
        [[title, *(f"{count:,}" for count in counts)] for title, *counts in rows],
    )


def times(case, names):
    """Return cells: our microseconds, then how many times as long the others take."""
    methods = case["methods"]
    cells = [f"{methods['certified']['microseconds_per_matrix']:.3g}"]
    for name in names:
        row = methods[name]
        low, high = row["ratio_range"]
        cells.append(f"{row['ratio_to_certified']:.2g} ({low:.2g}–{high:.2g})")
    return cells


def inverses():
    """Return the table of certified inverses."""
    names = ["numpy.linalg.inv", "scipy.linalg.inv", "torch.linalg.inv"]
    return markdown(
        ["n", "dtype", "tol", "certified, µs", *(f"`{name}`" for name in names)],
        [
            [str(case["n"]), case["dtype"], f"{case['tol']:.0e}", *times(case, names)]
            for case in load("certified")["inverses"]
        ],
    )


def inverses_by_order():
    """Return the guide's table of them: how many times as long NumPy takes with the same proof."""
    cases = load("certified")["inverses"]
    single = [case for case in cases if case["dtype"] == "float32"]
    rows = [
        [label, *(f"{c['methods']['numpy.linalg.inv']['ratio_to_certified']:.2g}" for c in chosen)]
        for label, chosen in {
            "float32, the loosest `tol`": single[1::2],
            "float32, 1e-6": single[::2],
            "float64, 1e-10": [case for case in cases if case["dtype"] == "float64"],
        }.items()
    ]
    return markdown(["certified, n", *(str(case["n"]) for case in single[::2])], rows)


def near_a_centre():
    return [case for case in load("certified")["solves"] if case["region"] == "l2 ball"]


def solves():
    """Return the table of certified solves."""
    names = ["numpy.linalg.solve", "torch.linalg.solve", "LU of the centre, refined"]
    return markdown(
        ["n", "certified, µs", "`numpy.linalg.solve`", "`torch.linalg.solve`", names[2]],
        [[str(case["n"]), *times(case, names)] for case in near_a_centre()],
    )


def solves_by_order():
    """Return the guide's table of them: how many times as long others take, without a proof."""
    cases = near_a_centre()
    rows = [
        [label, *(f"{case['methods'][method]['ratio_to_certified']:.2g}" for case in cases)]
        for label, method in {
            "`numpy.linalg.solve`": "numpy.linalg.solve",
            "LU of the centre, refined": "LU of the centre, refined",
        }.items()
    ]
    return markdown(["solutions, n", *(str(case["n"]) for case in cases)], rows)


def unseen_halves():
    """Return what is said of the real families."""
    results = load("certified")["real_families"].values()
    precisions = [row[dtype] for row in results for dtype in ("float32", "float64")]
    share = min(row["certified_without_fallback"] for row in precisions)
    return (
        f"Of the unseen halves of the real families at least {share:.4g} of the matrices are "
        "certified at 1e-6 without fallback, in float32 and float64, after at most "
        f"{max(row['max_steps'] for row in precisions)} steps."
    ).replace("at least 1 of the", "all")


def prices():
    """Return the table of what proofs cost, as multiples of what LAPACK takes without."""
    results, rows = load("prices"), []
    for family, figures in results["learned"].items():
        for tol in ("1e-04", "1e-08"):
            rows.append([f"learned, {family}, to {tol}", ranged(figures[f"to {tol}"])])
    for name, figures in results["series"].items():
        rows.append([f"series near its centre, {name}", ranged(figures["certified"])])
    for name, figures in results["single"].items():
        rows.append([f"one matrix, {name}", ranged(figures)])
    for case, words in EXPLAINED.items():
        for name, figures in results[case].items():
            rows.append([f"{words}{name}", ranged(figures["certified"])])
    return markdown(["proven, one thread", "in times of plain LAPACK"], rows)


def prices_by_family():
    """Return the guide's table of learned inverses, proven."""
    learned = load("prices")["learned"]
    rows = [
        [family, *(short(figures[f"to {tol}"]["median"]) for tol in ("1e-04", "1e-08"))]
        for family, figures in learned.items()
    ]
    return markdown(["learned and proven", "to 1e-4", "to 1e-8"], rows)


def front():
    """Return the tables of skinv.inv: with its bounds beside NumPy, and what else there is."""
    orders = load("front")["orders"]
    names = {
        "torch": "torch.linalg.inv",
        "SciPy": "scipy.linalg.inv",
        "JAX": "jax.numpy.linalg.inv, jitted",
        "numba": "numba",
    }

    def ratio(row, name):
        known = row["ratios"].get(name)
        return short(known["skinv.inv"]["median"]) if known else "–"

    ours, others = [], []
    for n, row in orders.items():
        taken = short(row["microseconds"]["skinv.inv"]["median"])
        numpy = ratio(row, "numpy.linalg.inv")
        ours.append([n, taken, f"{row['median_bound']:.0e}", numpy])
        others.append([n, *(ratio(row, name) for name in names.values())])
    return (
        markdown(["n", "`skinv.inv`, µs", "median bound", "NumPy"], ours),
        markdown(["n", *names], others),
    )


def solutions():
    """Return the guide's table of skinv.solve: how many times as long it takes as NumPy's."""
    rows = [
        [n, *(short(row[f"{k} right-hand sides"]["ratio"]["median"]) for k in (1, 16))]
        for n, row in load("front")["solutions"].items()
    ]
    return markdown(["solutions, n", "one right-hand side", "16"], rows)


def families():
    """Return the table of certified solves of families, to 1e-6."""
    head = [*("family", "n", "certified, µs", "of `numpy.linalg.solve`", "with bounds of entries")]
    return markdown(
        head,
        [
            [
                *(case["family"], str(case["n"])),
                f"{case['microseconds']['certified']['median']:.3g}",
                *(ranged(row, "{:.2g}".format) for row in case["ratio_to_numpy"].values()),
            ]
            for case in load("solves")["solves"]
        ],
    )


def streams():
    """Return the table of streams that drift."""
    results, rows = load("streams"), []
    for part, title in {"days": "day of {}", "filters": "{}", "loop": "one at a time, {}"}.items():
        for name, row in results[part].items():
            moves, ratios = row["moves of the centre"], row["ratio"]
            if part == "loop":
                ratios = {"numpy.linalg.solve": ratios}
            cells = [ranged(ratios[key]) for key in ratios]
            spread = f"{min(moves)} to {max(moves)}" if min(moves) < max(moves) else f"{moves[0]}"
            rows.append([title.format(name), spread, *cells, *["–"] * (2 - len(cells))])
    return markdown(["stream", "moves", "of plain LAPACK", "of the refined LU"], rows)


def regions():
    """Return the table of worst errors over regions."""
    head = [
        *("region", "model", "largest of 10,000 test errors", "gap asked for"),
        *("proven worst case", "boxes", "s"),
    ]
    return markdown(
        head,
        [
            [
                *(TITLES[row["region"]], row["model"], f"{row['test_max']:.2g}"),
                *(f"{100 * row['rtol']:.0f} %", f"{row['lower']:.3g} to {row['upper']:.3g}"),
                *(f"{row['boxes']:,}", f"{row['seconds']:.2g}"),
            ]
            for row in load("region")["results"]
        ],
    )


def slices():
    """Return the table of worst residuals over slices of grids."""
    head = [
        *("slice", "model", "largest of 10,000 test residuals", "proven worst case", "boxes", "s")
    ]
    return markdown(
        head,
        [
            [
                f"{row['case']} (n = {row['n']}), {row['directions']}",
                *(row["model"], f"{row['samples_max']:.2g}"),
                f"{row['lower']:.3g} to {row['upper']:.3g}",
                *(f"{row['boxes']:,}", f"{row['seconds']:.2g}"),
            ]
            for row in load("slices")["results"]
        ],
    )


def slices_in_short():
    """Return the guide's table of them."""
    return markdown(
        ["slice, model", "of samples", "proven", "s"],
        [
            [
                f"{row['case']}, {row['directions']}: {row['model']}",
                *(f"{row['samples_max']:.1e}", f"{row['upper']:.2e}", f"{row['seconds']:.2g}"),
            ]
            for row in load("slices")["results"]
            if (row["case"], row["directions"]) in SLICES and row["model"] in SLICED
        ],
    )


def file_of_many():
    """Return what is said of a file that is read by blocks."""
    whole = load("scale")["whole"]
    peaks = [whole[task]["dask, 2 threads"]["peak_mb"] for task in ("predict", "report")]
    return (
        f"A file of {whole['file_mb'] / 1000:.2g} GB went through `predict` and through `report` "
        f"like this with a peak of {max(peaks) / 1000:.2g} GB of memory, most of it for Python and "
        "its packages "
        "([`scale.json`](../../benchmarks/results/scale.json))."
    )
