"""The house: how long files are, how many parameters functions take, which way imports go. Nothing is imported."""

import ast
import functools
import gc
import graphlib
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PLACES = (
    "dualvqa",
    "dualvqa_light",
    "modeling_dualvqa",
    "processing",
    "benchmarks",
    "demo",
    "examples",
    "tests",
    "space",
    "web",
    "run_vqa.py",
)
PACKAGES = ("dualvqa/", "dualvqa_light/", "modeling_dualvqa/", "processing/")
SUFFIXES = (".py", ".j2", ".css", ".js", ".mjs", ".html")

LINES, PARAMETERS = 400, 6
SHORTER = {"dualvqa/training/trainer.py": 300}  # bounds of their own
# Signatures that are not ours to choose.
LONG_SIGNATURES = {
    "modeling_dualvqa/fusion_dualvqa.py:eager_attention": "transformers calls its attention functions so",
    "modeling_dualvqa/modeling_dualvqa.py:DualVQAForQuestionAnswering.forward": (
        "Trainer, peft and the exporters read a model's inputs off its signature, one name each"
    ),
}

# Each may import itself and what stands in the lines after its own, and nothing else of the project.
LAYERS = (
    ("tests",),
    ("run_vqa", "benchmarks", "demo", "examples", "space"),
    ("dualvqa",),  # its __init__.py: the public names
    ("dualvqa.cli",),
    ("dualvqa.run",),
    ("dualvqa.trainer",),
    ("dualvqa.reporting",),
    ("dualvqa.trust",),
    ("dualvqa.deployment",),
    ("dualvqa.prediction",),
    ("dualvqa.training",),
    ("modeling_dualvqa", "processing", "dualvqa_light", "dualvqa.siblings", "dualvqa.shipped"),
)
# Shipped to the Hub beside the weights: what a machine that loads a model must have.
SHIPPED = ("modeling_dualvqa", "processing")  # their files *_dualvqa.py
SHIPPED_NEED = {"torch", "torchvision", "transformers", "numpy", "PIL", "huggingface_hub", "safetensors"}

# The only ways back, each inside a function.
BACKWARD = {
    (
        "dualvqa.run.flags",
        "dualvqa.run.describe_flags",
    ): "what flags.json holds, for another version of transformers",
}

# Tests of more than one folder, or of none.
TOP_TESTS = {
    "test_benchmarks.py": "benchmarks/",
    "test_code_blocks.py": "the blocks of README.md and docs/",
    "test_demo.py": "demo/",
    "test_docs.py": "README.md and docs/",
    "test_house.py": "the tree",
    "test_moved.py": "the old import paths, and the public names",
    "test_notebooks.py": "notebooks/",
    "test_packaging.py": "setup.cfg",
    "test_public_trainer.py": "dualvqa/trainer.py",
    "test_real_material.py": "a run on real images and towers",
}


@pytest.fixture(scope="module", autouse=True)
def trees():
    """A million nodes are not looked through for circles again and again, here and in the tests after these."""
    gc.disable()
    yield
    gc.enable()
    tree.cache_clear()


@functools.cache
def sources():
    """path from the project's folder -> text, of every source file."""
    files = [file for place in PLACES for file in [ROOT / place, *(ROOT / place).rglob("*")] if file.suffix in SUFFIXES]
    return {file.relative_to(ROOT).as_posix(): file.read_text(encoding="utf-8") for file in sorted(files)}


@functools.cache
def tree(path):
    return ast.parse(sources()[path])


@functools.cache
def modules():
    return [path for path in sources() if path.endswith(".py")]


def is_shipped(path):
    return path.endswith("_dualvqa.py") and Path(path).parent.as_posix() in SHIPPED


def name_of(path):
    """`processing.answers` of processing/answers.py, `processing` of processing/__init__.py."""
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def origin(path, node):
    """Whole name of the module that a `from ... import` of a file names."""
    if not node.level:
        return node.module
    package = Path(path).parts[: -node.level]
    return ".".join([*package, *([node.module] if node.module else [])])


@functools.cache
def known_modules():
    return {*map(name_of, modules()), "dualvqa.__version__"}


@functools.cache
def imports(path):
    """Modules that a file imports, anywhere in it, by their whole names."""
    found = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            home = origin(path, node)
            for name in [f"{home}.{alias.name}" for alias in node.names]:  # a module of the package, or a name in it
                found.add(name if name in known_modules() else home)
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            if "import_module" in ast.unparse(node.func):
                found.add(node.args[0].value)
    return found


def functions(path):
    """Whole name, and names of the parameters without self or cls, of every function of a file."""

    def walk(node, stack, in_class):
        for child in ast.iter_child_nodes(node):
            if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)):
                names = [a.arg for a in [*child.args.posonlyargs, *child.args.args, *child.args.kwonlyargs]]
                bound = in_class and names[:1] in (["self"], ["cls"])
                yield ".".join([*stack, child.name]), names[bound:]
                yield from walk(child, [*stack, child.name], False)
            elif isinstance(child, ast.ClassDef):
                yield from walk(child, [*stack, child.name], True)
            else:
                yield from walk(child, stack, in_class)

    return walk(tree(path), [], False)


def layer_of(module):
    """Number of the layer, from the top, and its name; None for what is not the project's."""
    names = [(number, name) for number, layer in enumerate(LAYERS) for name in layer]
    found = [(number, name) for number, name in names if module == name or module.startswith(f"{name}.")]
    return max(found, key=lambda place: len(place[1]), default=None)


def long_files():
    for path, text in sources().items():
        found, bound = len(text.splitlines()), SHORTER.get(path, LINES)
        if found > bound:
            yield path, f"has {found} lines, at most {bound}"


def long_signatures():
    for path in modules():
        for name, parameters in functions(path):
            if len(parameters) > PARAMETERS and f"{path}:{name}" not in LONG_SIGNATURES:
                yield f"{path}:{name}", f"takes {len(parameters)} parameters, at most {PARAMETERS}"


def upward_imports():
    for path in modules():
        own, name = layer_of(name_of(path))
        for module in imports(path):
            other = layer_of(module)
            if other and other[1] != name and other[0] <= own and module != "dualvqa.__version__":
                yield f"{path}:{module}", f"{name} may not import {other[1]}"


def imports_of_tests():
    tests = {Path(path).stem for path in modules() if Path(path).name.startswith("test_")}
    for path in modules():
        found = {module.rpartition(".")[2] for module in imports(path)} & tests
        if found:
            yield path, f"imports {', '.join(sorted(found))}: what several tests need stands in conftest.py or a helper"


def shipped_imports():
    """What a folder on the Hub could not resolve, or would ask everyone to install (transformers reads every import
    outside of `try`, also inside functions)."""
    files = [path for path in modules() if is_shipped(path)]
    for path in files:
        guarded = {id(node) for block in ast.walk(tree(path)) if isinstance(block, ast.Try) for node in ast.walk(block)}
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.ImportFrom) and node.level:
                sibling = f"{Path(path).parent}/{node.module}.py"
                if node.level > 1 or sibling not in files:
                    yield f"{path}:{ast.unparse(node)}", "may only be `from .x_dualvqa import y`, of the same folder"
            elif isinstance(node, (ast.Import, ast.ImportFrom)):
                names = [node.module] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
                for name in {name.partition(".")[0] for name in names} - SHIPPED_NEED - sys.stdlib_module_names:
                    if id(node) not in guarded or layer_of(name):
                        yield f"{path}:{name}", f"may only be one of {', '.join(sorted(SHIPPED_NEED))}"


def misplaced_tests():
    folders = {}  # name of a source file -> folders that it lies in, deepest last
    for path in modules():
        if path.startswith(PACKAGES):
            folders.setdefault(Path(path).stem, []).append(Path(path).parts[:-1])
    every = {name for found in folders.values() for parts in found for name in parts} | {"cli", "web", "space"}
    for path in modules():
        (top, *inner), name = Path(path).parts[:-1] or ("",), Path(path).name
        if top != "tests" or not name.startswith("test_"):
            continue
        if not inner:
            if name not in TOP_TESTS:
                yield path, "is not one of the tests of the whole project: TOP_TESTS"
        elif inner[0] not in every:
            yield path, "lies in a folder that mirrors none of the sources"
        else:
            sources = folders.get(name[5:-3], [])
            if sources and not any(inner[0] in parts for parts in sources):
                yield path, f"tests {' or '.join('/'.join(parts) for parts in sources)}/{name[5:]}"


RULES = (long_files, long_signatures, upward_imports, imports_of_tests, shipped_imports, misplaced_tests)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_tree_keeps(rule):
    offenders = [f"{place} {message}" for place, message in rule()]
    assert not offenders, "\n".join(offenders)


def test_modules_do_not_import_each_other_in_circles():
    graph = {name_of(path): imports(path) - {name_of(path)} for path in modules()}
    for module, back in BACKWARD:
        graph[module].remove(back)
    graphlib.TopologicalSorter(graph).prepare()  # a CycleError names them


def test_shipped_files_have_names_of_their_own():
    names = [Path(path).name for path in modules() if is_shipped(path)]
    assert len(names) == len(set(names)) > 10


@pytest.mark.parametrize("place", LONG_SIGNATURES)
def test_an_exception_is_one_still(place):
    path, _, name = place.partition(":")
    assert len(dict(functions(path))[name]) > PARAMETERS


def definition(module, name):
    """The class or function, through packages that pass it on; another value's assignment."""
    path = next(path for path in modules() if name_of(path) == module)
    for node in tree(path).body:
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)) and node.name == name:
            return node
        if isinstance(node, ast.ImportFrom) and name in [alias.asname or alias.name for alias in node.names]:
            return definition(origin(path, node), name)
        if isinstance(node, ast.Assign) and name in [getattr(target, "id", None) for target in node.targets]:
            return node
    homes = homes_of(path)
    return definition(next(home for home, names in homes.items() if name in names), name)


def homes_of(path):
    """HOMES of a package's __init__.py: whole name of a module -> the names that it gives."""
    for node in tree(path).body:
        if isinstance(node, ast.Assign) and node.targets[0].id == "HOMES":
            return ast.literal_eval(node.value)
    return {}


def test_public_names_are_documented():
    bare = []
    for home, names in homes_of("dualvqa/__init__.py").items():
        for name in names:
            node = definition(home, name)
            if isinstance(node, (ast.ClassDef, ast.FunctionDef)) and not ast.get_docstring(node):
                bare.append(f"{home}.{name}")
    assert not bare, f"no docstring: {', '.join(bare)}"
