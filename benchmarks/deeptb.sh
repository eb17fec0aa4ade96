#!/bin/sh
# Make an environment with DeePTB (dptb on PyPI), apart from that of harmose:
#
#     benchmarks/deeptb.sh FOLDER
#     python benchmarks/performance.py BENCH --deeptb-python FOLDER/bin/python
#
# `pip install dptb` requires torch 2.5.1 or older and old releases of scipy, h5py and lmdb. It also runs with the torch that
# harmose is tested with, so that both are timed with the same one: its dependencies are installed by name, and
# dptb without its version limits. torch_scatter is compiled (C++ compiler, about six minutes of processor time).
# PYTHON (3.11 or 3.12) and TORCH may be set, e.g. TORCH=torch==2.5.1.
set -eu
folder=${1:?usage: benchmarks/deeptb.sh FOLDER}
"${PYTHON:-python3}" -m venv "$folder"
pip="$folder/bin/python -m pip install --quiet --disable-pip-version-check"
$pip "${TORCH:-torch==2.13.0}" wheel setuptools ninja
$pip e3nn torch-runstats==0.2.0 torch_geometric opt-einsum dargs==0.4.4 h5py lmdb pyfiglet==1.0.2 tensorboard seekpath spglib rich \
    ase pyyaml matplotlib scipy pytest
$pip --no-build-isolation --no-deps torch_scatter==2.1.2
$pip --no-deps dptb==2.2.1
"$folder/bin/python" -c "import dptb.nn.build; print('DeePTB is ready')"
