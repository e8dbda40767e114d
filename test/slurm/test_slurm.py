"""Runs the scripts of slurm/ under a real Slurm of four nodes (slurm_cluster.py): the scenarios of scenarios.py, one
after the other.

    test_slurm.py BUILD [SCENARIO...]

The programs of BUILD are copied into the cluster first. Without names: the short ones, or with MILLRACE_LONG=1 in the environment
all. The exit code is 77 where Slurm or the right to make namespaces is missing.
"""

import os
import shutil
import sys
import time
import traceback

import cluster
import scenarios
import slurm_cluster


def run(scenario, site):
    begin = time.monotonic()
    try:
        scenario(site)
    except Exception:
        traceback.print_exc()
        print(slurm_cluster.SlurmCluster.logs(), site.cluster.slurm("scontrol", "show", "job"), sep="\n")
        for name in sorted(os.listdir(scenarios.WORK)):
            if name.endswith(".log"):
                with open(f"{scenarios.WORK}/{name}", errors="replace") as log:
                    print(f"--- {name}", *log.readlines()[-40:], sep="\n")
        print(f"FAILED {scenario.__name__}", flush=True)
        site.cluster.restore()
        return False
    print(f"passed {scenario.__name__} in {time.monotonic() - begin:.0f} s", flush=True)
    return True


def main():
    build = os.path.abspath(sys.argv[1])
    names = sys.argv[2:]
    cluster.isolate(slurm_cluster.TOOLS)
    chosen = [*scenarios.SHORT, *(scenarios.LONG if os.environ.pop("MILLRACE_LONG", None) else [])]
    if names:
        chosen = [getattr(scenarios, name) for name in names]

    os.makedirs(scenarios.WORK)
    source = os.path.abspath(os.path.join(os.path.dirname(__file__), "../.."))
    prefix = f"{cluster.BASE}/prefix"  # laid out as cmake --install does
    os.makedirs(f"{prefix}/bin")
    for program in ("millrace", "millrace-report", "millrace-doctor"):
        if os.path.exists(f"{build}/{program}"):
            shutil.copy(f"{build}/{program}", f"{prefix}/bin")
    shutil.copytree(f"{source}/slurm", f"{prefix}/share/millrace/slurm")
    os.chdir(scenarios.WORK)  # the jobs' logs go where they were submitted
    os.environ["MILLRACE_SITE"] = f"{scenarios.WORK}/site.sh"
    slurm = slurm_cluster.SlurmCluster(nodes=4)
    site = scenarios.Site(slurm, scripts=f"{prefix}/share/millrace/slurm", programs=f"{prefix}/bin",
                          model=f"{source}/test/data/models/llama-tied-bias")
    results = [run(scenario, site) for scenario in chosen]
    sys.exit(0 if all(results) else 1)


main()
