"""The store that the shipped water model is trained on: a trajectory, and waters that fill the box of its distances.

    python examples/results/molecules_npz.py water.npz water.store
    python examples/results/merged_water.py STORE water.store box       # `box`: examples/results/water_box.py

`train`: the trajectory's 500 and all of the box. The trajectory's 100 of `val` become `val`, which chooses the weights, and
`test`, in turn.
"""

import argparse
import sys

from harmose.data.store import Store, new_store
from harmose.errors import HarmoseError


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out")
    parser.add_argument("trajectory")
    parser.add_argument("box")
    options = parser.parse_args()
    try:
        with Store.open(options.trajectory) as trajectory, Store.open(options.box) as box:
            held_out, names = trajectory.splits["val"], box.names()
            splits = {"train": [*trajectory.splits["train"], *names], "val": held_out[::2], "test": held_out[1::2]}
            with new_store(options.out, trajectory.basis, trajectory.spin, trajectory.metadata) as target:
                for store, part in ((trajectory, trajectory.names()), (box, names)):
                    for name in part:
                        target.append(store[name])
                target.set_splits(splits)
    except HarmoseError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{options.out}: " + ", ".join(f"{name} {len(part)}" for name, part in splits.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
