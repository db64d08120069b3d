"""What a result file says of the machine it was measured on, and how it is written."""

import json
import os
import platform
from datetime import date
from pathlib import Path

RESULTS = Path(__file__).with_name("results")


def describe():
    """Return processor, cores, threads and versions."""
    import numpy
    import scipy
    import sklearn
    import torch

    import skinv

    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line for line in cpuinfo.read_text().splitlines() if "model name" in line]
        model = names[0].split(":")[1].strip() if names else model
    return {
        "date": date.today().isoformat(),
        "processor": model,
        "cores": os.cpu_count(),
        "cuda": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        **{m.__name__: m.__version__ for m in (numpy, scipy, sklearn, torch, skinv)},
    }


def write(name, results):
    """Write results with the machine's description to results/NAME.json."""
    path = RESULTS / f"{name}.json"
    # Results of which some are kept from before have the machine of then.
    results = {"machine": None} | results | {"machine": describe()}
    path.write_text(json.dumps(results, indent=1) + "\n")
    print(f"wrote {path.name}")
