"""The public names and their methods are documented: arguments, results, errors, and examples that run."""

import ast
import doctest
import inspect
import re
import textwrap
import types

import pytest

import harmose
import harmose.errors
from harmose.errors import HarmoseError

NAMES = [name for name in harmose.__all__ if name != "__version__"]


def public_objects():
    """Yield path and object of each public name; of the modules among them, of each public name defined there."""
    for name in NAMES:
        thing = getattr(harmose, name)
        if not isinstance(thing, types.ModuleType):
            yield f"harmose.{name}", thing
            continue
        for member, value in vars(thing).items():
            own = getattr(value, "__module__", None) == thing.__name__ and not member.startswith("_")
            is_protocol = getattr(value, "_is_protocol", False)
            if own and not is_protocol and (inspect.isclass(value) or inspect.isfunction(value)):
                yield f"harmose.{name}.{member}", value


OBJECTS = dict(public_objects())
CLASSES = {path: thing for path, thing in OBJECTS.items() if inspect.isclass(thing)}


def public_functions():
    """Yield path and function of each public function, and of each public method of a public class."""
    for path, thing in OBJECTS.items():
        if inspect.isfunction(thing):
            yield path, thing
    for path, thing in CLASSES.items():
        for name, value in members(thing).items():
            function = value.__func__ if isinstance(value, classmethod | staticmethod) else value
            if inspect.isfunction(function):
                yield f"{path}.{name}", function


def members(cls):
    """Public attributes that the class itself defines."""
    return {name: value for name, value in vars(cls).items() if not name.startswith("_")}


FUNCTIONS = dict(public_functions())
PROPERTIES = {
    f"{path}.{name}": value
    for path, thing in CLASSES.items()
    for name, value in members(thing).items()
    if hasattr(value, "fget") or type(value).__name__ == "cached_property"
}


def section(docstring, *titles):
    """Text of the first section with one of these titles (Google style); None if there is none."""
    match = re.search(rf"^({'|'.join(titles)}):\n((?:    .*\n|\n)*)", docstring + "\n", flags=re.MULTILINE)
    return match.group(2) if match else None


def raised(function):
    """Names of the errors of harmose that the body of a function raises."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    for node in ast.walk(tree):
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and isinstance(node.exc.func, ast.Name):
            error = getattr(harmose.errors, node.exc.func.id, None)
            if error is not None and issubclass(error, HarmoseError):
                yield node.exc.func.id


def problems(function):
    """Yield what the docstring of a function lacks."""
    text = inspect.getdoc(function)
    if not text:
        yield "docstring"
        return
    signature = inspect.signature(function)
    arguments = section(text, "Args")
    for name in signature.parameters:
        if name not in ("self", "cls") and not re.search(rf"^    \*{{0,2}}{name}\b.*:", arguments or "", re.MULTILINE):
            yield f"Args: {name}"
    result = signature.return_annotation
    returns_none = result in (None, "None", inspect.Signature.empty)
    if not returns_none and section(text, "Returns", "Yields") is None:
        yield "Returns"
    for error in sorted(set(raised(function))):
        if error not in (section(text, "Raises") or ""):
            yield f"Raises: {error}"


def test_functions_and_methods_are_found():
    for path in ("harmose.read", "harmose.Model.predict", "harmose.BlockMatrix.rotate", "harmose.pyscf.start",
                 "harmose.testing.assert_round_trip", "harmose.Store.create"):  # fmt: skip
        assert path in FUNCTIONS
    assert "harmose.BlockMatrix.n_orbitals" in PROPERTIES


@pytest.mark.parametrize("path", FUNCTIONS)
def test_function_is_documented(path):
    assert list(problems(FUNCTIONS[path])) == []


@pytest.mark.parametrize("path", PROPERTIES)
def test_property_is_documented(path):
    assert inspect.getdoc(PROPERTIES[path])


@pytest.mark.parametrize("path", CLASSES)
def test_class_is_documented(path):
    cls = CLASSES[path]
    text = inspect.getdoc(cls)
    assert text
    fields = [name for name in getattr(cls, "__dataclass_fields__", ()) if not name.startswith("_")]
    described = section(text, "Attributes", "Args") or ""
    assert [name for name in fields if not re.search(rf"^    {name}\b.*:", described, re.MULTILINE)] == []


@pytest.mark.parametrize("path", OBJECTS)
def test_examples_run(path, tmp_path, monkeypatch):
    thing = OBJECTS[path]
    monkeypatch.chdir(tmp_path)
    tests = [test for test in doctest.DocTestFinder().find(thing, path, globs={}) if test.examples]
    if path.count(".") == 1 and path != "harmose.HarmoseError":
        assert tests, "no example"
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    output = []
    for test in tests:
        runner.run(test, out=output.append)
    assert runner.failures == 0, "".join(output)
