import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

_SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "package_index.py"


@pytest.fixture(scope="module")
def package_index() -> ModuleType:
    spec = importlib.util.spec_from_file_location("package_index", _SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_index_of_pip_becomes_uvs(package_index: ModuleType) -> None:
    listing = (
        ":env:.extra-index-url='https://one.example/simple\\nhttps://two.example/simple'\n"
        "global.index-url='https://global.example/simple'\n"
        "global.timeout='60'\n"
        "global.trusted-host='mirror.example'\n"
        "install.index-url='https://install.example/simple'\n"
    )
    assert package_index.assignments(package_index.pip_settings(listing), {}) == {
        "UV_DEFAULT_INDEX": "https://install.example/simple",
        "UV_INDEX": "https://one.example/simple https://two.example/simple",
        "UV_INSECURE_HOST": "mirror.example",
    }


def test_what_uv_was_told_itself_stays(package_index: ModuleType) -> None:
    settings = {"index-url": "https://pip.example/simple"}
    assert package_index.assignments(settings, {"UV_INDEX_URL": "https://uv.example/simple"}) == {}
    assert package_index.assignments(settings, {"UV_DEFAULT_INDEX": "https://uv.example/simple"}) == {}


def test_a_folder_of_wheels_that_is_not_there_is_left_out(package_index: ModuleType, tmp_path: Path) -> None:
    settings = {"find-links": f"/nowhere {tmp_path} https://wheels.example/"}
    assert package_index.assignments(settings, {}) == {"UV_FIND_LINKS": f"{tmp_path},https://wheels.example/"}
