"""Tells what this machine has and lacks for tf_marl, with the command that fixes it: tf-marl doctor

The checks are in `tf_marl/doctor.py`.
"""

import sys

from tf_marl import doctor, places

try:
    from absl import flags

    from . import app
except ImportError as error:
    says = f"Python finds no module {error.name}, and probably few others that are needed"
    sys.exit(f"problem  {says}\n         fix: make setup in a checkout, else install tf_marl's wheel with pip")

FLAGS = flags.FLAGS

app.define_json_flag()
app.define_sc2_flag()
app.define_store_flag()


def main() -> int:
    """Prints what was found, a line each, with the command that fixes it.

    Returns:
        The exit code: 1 if something found is a problem, else 0.
    """
    findings = doctor.examine(FLAGS.tracking_uri, places.STORE_FOLDER, places.CHECKOUT)
    width = max(len(finding.what) for finding in findings)
    for status, what, says, fix in findings:
        print(f"{status:8} {what:{width}}  {says}")
        if fix and status != "ok":
            print(f"{'':8} {'':{width}}  fix: {fix}")
    problems = sum(finding.status == "problem" for finding in findings)
    print("no problems" if not problems else f"{problems} problem{'s' * (problems > 1)}", flush=True)
    app.print_json({"problems": problems, "findings": [finding._asdict() for finding in findings]})
    return int(problems > 0)


if __name__ == "__main__":
    app.run(main)
