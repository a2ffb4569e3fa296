"""What pyproject.toml can't say: the modules that read images are those of processing, and a build takes them along."""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py
from setuptools.command.sdist import sdist

HERE = Path(__file__).resolve().parent
SHARED = (
    "dicom_dualvqa.py",
    "downloads_dualvqa.py",
    "image_loading_dualvqa.py",
    "image_sources_dualvqa.py",
    "processor_checks_dualvqa.py",
    "promises_dualvqa.py",
)


def shared_files():
    """In a source distribution they are here already."""
    for name in SHARED:
        found = [place / name for place in (HERE, HERE.parent / "processing") if (place / name).is_file()]
        if not found:
            raise FileNotFoundError(
                f"expected {name} in {HERE.parent / 'processing'}: build dualvqa-light from a whole checkout, or from "
                f"its wheel or source distribution, not from a copy of this folder alone"
            )
        yield str(found[0])


class Build(build_py):
    def find_package_modules(self, package, package_dir):
        return [found for found in super().find_package_modules(package, package_dir) if found[1] != "setup"]

    def run(self):
        super().run()
        if not self.editable_mode:  # an editable one finds them where they are
            for file in shared_files():
                self.copy_file(file, str(Path(self.build_lib, "dualvqa_light")))


class Sdist(sdist):
    def make_release_tree(self, base_dir, files):
        # Those of egg-info are beside this folder, and would be copied out of the tree.
        super().make_release_tree(base_dir, [file for file in files if not file.startswith("..")])
        for file in shared_files():
            self.copy_file(file, base_dir)


setup(cmdclass={"build_py": Build, "sdist": Sdist})
