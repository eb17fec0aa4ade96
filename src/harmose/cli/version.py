"""`harmose version`: versions of harmose and of the packages that decide its numbers and speed."""

from harmose.cli.options import installed_version

PACKAGES = ("torch", "numpy", "scipy", "pyscf", "ase", "lmdb", "safetensors", "vesin", "lightning-fabric")


def version() -> None:
    """Print the versions of harmose and of the packages that decide its numbers and speed."""
    import platform

    import harmose

    rows = {"harmose": harmose.__version__, "python": platform.python_version(), "platform": platform.machine()}
    rows |= {package: installed_version(package) for package in PACKAGES}
    width = max(map(len, rows))
    for name, value in rows.items():
        print(f"{name:{width}}  {value}")
