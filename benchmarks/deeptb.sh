#!/bin/sh
# Make an environment in which `harmose bench --against deeptb` finds DeePTB (dptb on PyPI), apart from harmose's own:
#
#     benchmarks/deeptb.sh FOLDER
#     harmose bench --against e3nn,deeptb --deeptb-python FOLDER/bin/python
#
# `pip install dptb` asks for torch 2.5.1 or older and pins others (scipy, h5py, lmdb) to releases of that time. It runs under
# the torch that harmose is tested with, so that both are timed with the same: what it imports is installed by name,
# dptb itself without its pins. torch_scatter is compiled (C++ compiler, about six minutes of processor time).
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
