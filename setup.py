"""Packages of the wheel: the library, and the experiments' config files as `assay.experiments`, which `--config=NAME` finds."""

from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
CONFIGS = sorted({path.parent.name for path in HERE.glob("experiments/*/*.py") if "def get_config(" in path.read_text(encoding="utf-8")})

setup(
    packages=[*find_packages("lib"), *(f"assay.experiments.{name}" for name in CONFIGS)],
    package_dir={"": "lib", **{f"assay.experiments.{name}": f"experiments/{name}" for name in CONFIGS}},
)
