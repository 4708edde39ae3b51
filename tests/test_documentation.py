"""The documentation runs, and the public names are those that are promised."""

import inspect
import re
import types
from pathlib import Path

import pytest

import jaxopt_layers as jl

README = Path(__file__).parents[1] / "README.md"
PUBLIC = set(
    "AffineSolverAffine ArgminSolution ConeSolution Cones DCPError DPPError Derivative"
    " FactorizationCost KKTPoint LayerSolution QPSolution Settings SolverError SparseMatrix"
    " Status argmin convex_layer derivative_quality entropy explain exponential"
    " factorization_cost geo_mean harmonic_mean huber implicit_argmin implicit_kkt inv_pos"
    " kl_div lambda_max lambda_min log_det log_sum_exp logistic matrix_frac maximize minimize"
    " nonneg nonpos norm1 norm2 norm_inf nuclear_norm p_norm perspective positive_semidefinite"
    " power project project_dual psd quad_form quad_over_lin raise_if_failed relative_entropy"
    " second_order sigma_max smat solve_and_derivative solve_cone solve_qp sum_largest"
    " sum_squares svec total_variation variable vmap_over_devices".split()
)


def code_blocks(text):
    """The contents of every ```python fence, without its indentation."""
    fences = re.findall(r"^([ \t]*)```python\n(.*?)^[ \t]*```", text, re.MULTILINE | re.DOTALL)
    return [inspect.cleandoc(indent + body) for indent, body in fences]


def public_names():
    return {
        name
        for name, value in vars(jl).items()
        if not name.startswith("_") and not isinstance(value, types.ModuleType)
    }


def docstring_blocks():
    """(name, block): of public names, and of the methods and properties that they define."""
    for name in sorted(public_names()):
        value = getattr(jl, name)
        documented = {name: value}
        if inspect.isclass(value):
            members = {key: member for key, member in vars(value).items() if key[0] != "_"}
            documented |= {f"{name}.{key}": member for key, member in members.items()}
        for label, item in documented.items():
            for number, block in enumerate(code_blocks(inspect.getdoc(item) or "")):
                # Each compiles a program of its own: these few in every run, all in the long one.
                marks = [] if label in ("solve_qp", "svec", "SparseMatrix") else [pytest.mark.slow]
                yield pytest.param(block, id=f"{label}-{number}", marks=marks)


def run(block, namespace):
    exec(compile(block, "<documentation>", "exec"), namespace)


@pytest.mark.parametrize("block", [*docstring_blocks()])
def test_docstring_example(block):
    run(block, {"__name__": "__main__"})


def test_readme_examples():
    """In the order of the page and in one namespace, as a reader would type them."""
    namespace = {"__name__": "__main__"}
    for block in code_blocks(README.read_text(encoding="utf-8")):
        run(block, namespace)


def test_the_readme_has_an_example_of_the_package():
    blocks = code_blocks(README.read_text(encoding="utf-8"))
    assert any("jaxopt_layers" in block for block in blocks)


def test_public_names():
    assert public_names() == PUBLIC


@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_every_public_name_is_documented(name):
    doc = inspect.getdoc(getattr(jl, name))
    assert doc
    assert not doc.startswith(f"{name}("), "a dataclass's own text is no documentation"


def test_examples_are_found_in_indented_docstrings():
    """The finder itself: it must not miss blocks without a word."""
    text = "Text.\n\n    ```python\n    x = 1\n    if x:\n        y = 2\n    ```\n"
    assert code_blocks(text + "\n```sh\nls\n```\n") == ["x = 1\nif x:\n    y = 2"]
    assert code_blocks("```python\na = 1\n```\nand\n```python\nb = 2\n```") == ["a = 1", "b = 2"]
    assert len(code_blocks(jl.solve_qp.__doc__)) >= 1


def test_references_in_docstrings_exist():
    """Links of the form [`name`][] are to public names."""
    for name in public_names():
        for target in re.findall(r"\[`([\w.]+)`\]\[\]", inspect.getdoc(getattr(jl, name)) or ""):
            assert target in PUBLIC, f"{name} refers to {target}"


def test_version_is_that_of_the_distribution():
    assert re.fullmatch(r"\d+\.\d+\.\d+\S*", jl.__version__)
