"""The package as it is installed."""

import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_wheel_holds_what_is_not_python(tmp_path: Path) -> None:
    """Migrations, the simulator's catalogue, the mark that it is typed, the licence; and nothing else of ours."""
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(tmp_path)]
    built = subprocess.run(build, check=False, timeout=60, cwd=ROOT, capture_output=True, text=True)

    assert built.returncode == 0, built.stderr
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        entry_points = archive.read(next(name for name in names if name.endswith("entry_points.txt"))).decode()
    assert {
        "runware_provider/py.typed",
        "runware_provider/simulator/catalogue.json",
        "runware_provider/projection/migrations/env.py",
        "runware_provider/projection/migrations/versions/m0001_initial.py",
    } <= set(names)
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {"runware_provider"}
    assert "runware-provider = runware_provider.cli:main" in entry_points
    sources = {str(each.relative_to(ROOT / "src")) for each in (ROOT / "src").rglob("*.py")}
    assert sources <= set(names)
