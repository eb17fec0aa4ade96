"""`harmose version`: versions of harmose and of the packages that decide its numbers and speed."""

import platform

import harmose
from harmose.cli.options import examples, installed_version, new_app

PACKAGES = ("torch", "numpy", "scipy", "pyscf", "ase", "lmdb", "safetensors", "vesin", "lightning-fabric")


app = new_app()


@app.command(epilog=examples("harmose version"))
def version() -> None:
    """Print the versions of harmose and of the packages that decide its numbers and speed."""
    rows = {"harmose": harmose.__version__, "python": platform.python_version(), "platform": platform.machine()}
    rows |= {package: installed_version(package) for package in PACKAGES}
    width = max(map(len, rows))
    for name, value in rows.items():
        print(f"{name:{width}}  {value}")
