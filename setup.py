"""What setup.cfg can't say: how README is read on a package index, and which folders go into the package."""

import configparser
import re
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent
SHIPPED = ("recipes", "launch", "web", "space")
RELATIVE = r"(?![a-z]+:|#)"  # a link that is no URL and no place on the page


def description(text, home):
    """README for a page that is not beside its files: images become links, and links whole URLs."""
    text = re.sub(rf"!(\[[^\]]*\]\({RELATIVE})", r"\1", text)
    text = re.sub(rf'<img\b[^>]*src="{RELATIVE}[^>]*>', "", text)
    return re.sub(rf'(\]\(|href="|src="){RELATIVE}(?:\./)?', rf"\1{home}/blob/main/", text)


def packages():
    """Recipes, launch files and pages lie at the top of the repository, and in the package once it is installed."""
    return [
        *find_packages(include=["dualvqa*", "modeling_dualvqa*", "processing*"]),
        *(f"dualvqa.{name}" for name in SHIPPED),
    ]


class Build(build_py):
    def find_package_modules(self, package, package_dir):
        """The modules of a package, without the setup.py by which the light package is a distribution of its own."""
        return [found for found in super().find_package_modules(package, package_dir) if found[1] != "setup"]


config = configparser.ConfigParser()
config.read(ROOT / "setup.cfg", encoding="utf-8")
setup(
    cmdclass={"build_py": Build},
    packages=packages(),
    package_dir={f"dualvqa.{name}": name for name in SHIPPED},
    long_description=description((ROOT / "README.md").read_text(encoding="utf-8"), config["metadata"]["url"]),
    long_description_content_type="text/markdown",
)
