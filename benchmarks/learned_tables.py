"""Tables and sentences of models: their errors, times and training, and the paper's experiment."""

from cells import TITLES, load, markdown, median, ranged, short

FAMILY_TITLES = TITLES | {
    "case30": "30-bus grid (case30)",
    "case30, from its factors": "the same, from its 3 load factors",
    "arm mass": "mass matrices, 7-link arm",
    "plate": "stiffness of a plate",
    "grid": "100-bus grid",
}


def families():
    """Return the table of families: errors, and times as multiples of LAPACK's."""
    head = [
        *("matrices", "n", "`numpy.linalg.inv`, µs", "series, order 2", "scikit-learn pipeline"),
        *("`PolynomialInverseApprox`", "`NeuralInverseRegressor`"),
    ]
    rows = []
    for name, row in load("families")["results"].items():
        methods = row["methods"]
        # Of a box: the polynomials that take as long as the network, or the least longer.
        boxes = row.get("polynomial_at_the_time_of_the_network", {})
        columns = [
            "series 2",
            boxes.get("scikit-learn, ", "scikit-learn pipeline"),
            boxes.get("polynomial, ", "PolynomialInverseApprox"),
            "NeuralInverseRegressor",
        ]
        micro = methods["numpy.linalg.inv"]["float64"]["microseconds_per_matrix"]["median"]
        cells = [
            FAMILY_TITLES[name],
            f"{row['n']}",
            f"{micro:.2f}" if micro < 10 else f"{micro:.0f}",
        ]
        for column in columns:
            if column not in methods:
                cells.append("–")
                continue
            figures = methods[column]["float64"]
            error, ratio = (
                figures[k]["median"] for k in ("median_relative_error", "ratio_to_lapack")
            )
            cell = f"{error:.0e}, {ratio:.2g}×"
            degree = column.rpartition("degree ")[2]
            cells.append(f"{cell} (degree {degree})" if degree != column else cell)
        rows.append(cells)
    return markdown(head, rows)


def times_by_order():
    """Return the guide's table of microseconds per matrix."""
    names = ["2x2-first", "3x3", "puma560", "case6ww", "case9", "plate", "case30", "grid"]
    results = load("families")["results"]
    rows = []
    for label, method in {
        "`NeuralInverseRegressor`": "NeuralInverseRegressor",
        "`PolynomialInverseApprox`": "PolynomialInverseApprox",
        "`numpy.linalg.inv`": "numpy.linalg.inv",
        "`LinearInverseApprox`": "series 1",
    }.items():
        figures = [results[name]["methods"][method]["float64"] for name in names]
        times = [f["microseconds_per_matrix"]["median"] for f in figures]
        rows.append([label, *(f"{time:.2f}" for time in times)])
    return markdown(["n", *(str(results[name]["n"]) for name in names)], rows)


def series():
    """Return the table of first-order predictions against LAPACK."""
    head = [
        *("n", "dtype", "first order, µs", "`numpy.linalg.inv`", "`torch.linalg.inv`"),
        "into given memory: `torch.linalg.inv`",
        "one refinement step: `torch.linalg.inv`",
    ]
    rows = []
    for row in load("inference")["linear"]["results"]:
        cells = [
            ranged(row["ratios"][name])
            for name in (
                "numpy.linalg.inv to predict",
                "torch.linalg.inv to predict",
                "torch.linalg.inv, out to predict, out",
                "torch.linalg.inv to predict + refine",
            )
        ]
        micro = short(row["microseconds_per_matrix"]["predict"]["median"])
        rows.append([str(row["n"]), row["dtype"], micro, *cells])
    return markdown(head, rows)


def series_by_order():
    """Return the guide's table of them: how many times as long LAPACK takes."""
    results = load("inference")["linear"]["results"]
    rows = []
    for dtype in ("float32", "float64"):
        for method in ("numpy.linalg.inv", "torch.linalg.inv"):
            ratios = [r["ratios"][f"{method} to predict"] for r in results if r["dtype"] == dtype]
            rows.append([f"{dtype}, `{method}`", *(f"{r['median']:.2g}" for r in ratios)])
    orders = [str(row["n"]) for row in results if row["dtype"] == "float32"]
    return markdown(["first order, n", *orders], rows)


def batches():
    """Return the table of Ji, Wu and Xi (2025), extended: one thread."""
    methods = {
        "2-FC": "network, one hidden layer (2-FC)",
        "3-FC": "network, two hidden layers (3-FC)",
        "first order": "first order",
        "second order": "second order",
        "CertifiedInverse, 1e-4": "`CertifiedInverse`, 1e-4",
        "numpy.linalg.inv": "`numpy.linalg.inv`",
        "torch.linalg.inv": "`torch.linalg.inv`",
        "scipy.linalg.inv, singly": "`scipy.linalg.inv`, one by one",
    }
    results = load("inference")["table3"]["1 threads"]
    head = ["one thread"]
    for row in results:
        head += [f"{TITLES[row['region']]}: error", "µs"]
    rows = []
    for name, title in methods.items():
        cells = [title]
        for row in results:
            times = row["microseconds_per_matrix"]
            micro = [times[b][name]["median"] for b in ("1", "100", "10000") if name in times[b]]
            cells.append(f"{row['mean_relative_error'][name]:.0e}")
            cells.append(" / ".join(map(short, micro)))
        rows.append(cells)
    return markdown(head, rows)


def singly():
    """Return the table of single matrices: microseconds."""
    results = load("inference")["single"]
    titles = {
        "`numpy.linalg.inv`": ["numpy.linalg.inv"],
        "first order: `predict` / `inverse_function()`": [
            *("predict: first order", "inverse_function: first order")
        ],
        "ReLU network, no baseline: the same": [
            *("predict: relu, None", "inverse_function: relu, None")
        ],
        "SiLU network on a series: the same": [
            *("predict: silu, taylor2", "inverse_function: silu, taylor2")
        ],
        "the ReLU network in torch": ["torch forward"],
        "`MLPRegressor`": ["MLPRegressor.predict"],
    }
    rows = [
        [
            title,
            *(" / ".join(short(r["microseconds"][k]["median"]) for k in keys) for r in results),
        ]
        for title, keys in titles.items()
    ]
    head = [f"{TITLES[r['region']]}, {r['hidden']} units" for r in results]
    return markdown(["one matrix, µs", *head], rows)


def precisions():
    """Return the table of half precision: the largest mean error of n = 8 to 64."""
    errors = {}
    for row in load("inference")["precision"]:
        errors.setdefault(row["dtype"], []).append(row["mean_relative_error"])
    rows = [
        [dtype, *(f"{max(row[key] for row in some):.0e}" for key in some[0])]
        for dtype, some in errors.items()
    ]
    return markdown(["mean relative error", "third order", "and one step of refinement"], rows)


def files_and_memory():
    """Return what is said of ONNX files and of the memory of predictions."""
    results = load("inference")
    errors = [(row["dtype"], row["largest difference to predict, relative"])
              for row in results["onnx"]]  # fmt: skip
    single, half = (max(e for d, e in errors if d == dtype) for dtype in ("float32", "float16"))
    memory = results["memory"]
    beside = sum(memory["growth_of_the_peak_mb"].values()) - memory["input_mb"]
    return (
        f"Files run by onnxruntime differ from `predict` by up to {single:.1e} in float32 and "
        f"{half:.1e} in float16, relative to the largest entry. A prediction of "
        f"{memory['input_mb'] / 1000:.2g} GB of matrices takes no more than {beside} MB beside its "
        "result."
    )


def recipe():
    """Return the table of accuracy in a share of the published recipe's time."""
    columns = {
        "ReLU, 1/10 of the time": "relu, no baseline, 1/10",
        "SiLU, 1/4": "silu, no baseline, 1/4",
        "tanh, 1/4": "tanh, no baseline, 1/4",
        "defaults, 1/4": "defaults, 1/4",
        "SiLU, two layers, 1/4": "silu, two layers, 1/4",
        "`MLPRegressor`, 1/4": "MLPRegressor, 1/4",
    }
    training = load("training")
    rows = []
    for name, result in training["regions"]["results"].items():
        ratio = result["recipe_to"] | training["depth"]["results"][name]["recipe_to"]
        seconds = median([run["recipe"]["seconds"] for run in result["runs"]])
        rows.append(
            [
                *(TITLES[name], f"{result['error']['recipe']['median']:.1e}", f"{seconds:.0f}"),
                *(ranged(ratio[key]) for key in columns.values()),
            ]
        )
    return markdown(["region", "recipe: error", "s", *columns], rows)


def budget():
    """Return the table of accuracy in a given time on larger matrices."""
    head = [
        *("matrices", "s", "first order: error", "second order: ratio", "defaults: error"),
        *("defaults: ratio", "`MLPRegressor`: ratio"),
    ]
    orders, rows = load("orders")["median_error_by_order"], []
    for part in ("families", "large"):
        measured = load("training")[part]
        for name, result in measured["results"].items():
            error, ratio = result["error"], result["linear_to"]
            rows.append(
                [
                    *(TITLES[name], str(measured["seconds"]), f"{error['linear']['median']:.1e}"),
                    short(orders[name]["1"] / orders[name]["2"]),
                    f"{error['defaults']['median']:.1e}",
                    *(ranged(ratio[key]) for key in ("defaults", "MLPRegressor")),
                ]
            )
    return markdown(head, rows)


def steps():
    """Return what is said of a step of training."""
    ratios = load("training")["loop"]["skinv_to"]
    torch, skorch = (
        short(ratios[key]["median"])
        for key in ("plain torch, fused Adam", "skorch, default DataLoader")
    )
    return (
        f"A step of Adam on a small network takes plain torch with fused Adam {torch} times as "
        f"long, and skorch with its default loader {skorch} times; fits of 500 to 2,000 steps, "
        f"with all that comes before the first."
    )


def paper():
    """Return the table of the published recipe and skinv against the first order."""
    results = load("paper")
    regions = [name for name in TITLES if name in results]
    methods = {
        ("2-FC", "recipe"): "published recipe, 2-FC",
        ("3-FC", "recipe"): "published recipe, 3-FC",
        ("2-FC", "recipe, constant rate"): "at a constant rate, 2-FC",
        ("3-FC", "recipe, constant rate"): "at a constant rate, 3-FC",
        ("2-FC", "skinv, no baseline"): "skinv, no baseline, 2-FC",
        ("2-FC", "skinv"): "skinv, defaults, 2-FC",
    }

    def errors(region, network, method):
        runs = results[region]["runs"]
        return [r["error"] for r in runs if (r["network"], r["method"]) == (network, method)]

    rows = []
    for (network, method), title in methods.items():
        cells = [title]
        for region in regions:
            # Runs of hours have fewer seeds, the first ones.
            found = errors(region, network, method)
            pairs = zip(errors(region, None, "linear"), found, strict=False)
            ratios = sorted(a / b for a, b in pairs)
            middle = short(ratios[len(ratios) // 2]) if ratios else "–"
            spread = f" ({short(ratios[0])}–{short(ratios[-1])})" if len(ratios) > 1 else ""
            cells.append(middle + spread)
        rows.append(cells)
    steps = [
        " / ".join(f"{results[region]['recipe_steps'][network]:,}" for network in ("2-FC", "3-FC"))
        for region in regions
    ]
    rows.append(["*steps of the recipe, 2-FC / 3-FC*", *steps])
    return markdown(["linear error ÷ error", *(TITLES[region] for region in regions)], rows)


def patterns():
    """Return what is said of the pieces of the paper's small network."""
    shares = [
        sum(row["share"] for row in network["rows"] if max(row["gap"]) <= 0.25 * 0.36)
        for network in load("paper")["patterns"]["networks"]
        if network["method"] == "recipe"
    ]
    return (
        "The small network trained by its recipe is nearly the linear approximation on "
        f"{100 * min(shares):.0f} to {100 * max(shares):.0f} % of the box. With the errors that "
        "the paper prints nothing can be compared, since its centres and half-widths are not "
        "legible in the record at hand."
    )
