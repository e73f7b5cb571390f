"""What some modules of a distribution come to: their packages, their imports, the data they name; and that it is enough."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path

import pytest

from lsbuild.api import Compiled
from lsbuild.build import _only
from lsbuild.reach import reached

FILES = {
    "box/__init__.py": b"",
    "box/us/__init__.py": b"from box.us import tin as alias\n",
    "box/us/ssn.py": b"import re\nfrom ..util import *\nfrom box import check\n",
    "box/us/tin.py": b"DATA = get('us/tin')\n",
    "box/us/tin.dat": b"x",
    "box/us/other.py": b"",
    "box/util.py": b"def late():\n    import box.late\n",
    "box/late.py": b"''",
    "box/check/__init__.py": b"from . import digits\n",
    "box/check/digits.py": b"",
    "box/large.dat": b"y",
}


def test_a_module_needs_its_packages_its_imports_and_the_data_it_names() -> None:
    assert reached(FILES, ["box.us.ssn"]) == FILES.keys() - {"box/us/other.py", "box/large.dat"}
    assert reached(FILES, ["box.check"]) == {"box/__init__.py", "box/check/__init__.py", "box/check/digits.py"}
    assert reached(FILES, []) == frozenset()
    with pytest.raises(LookupError, match=r"box\.fr"):
        reached(FILES, ["box.fr"])


def test_a_part_ships_only_where_nobody_needs_the_whole() -> None:
    one = Compiled(wheels=("python-stdnum>=2",), only={"python-stdnum": ("stdnum.us.ssn",)})
    two = Compiled(wheels=("Python_Stdnum>=2",), only={"python-stdnum": ("stdnum.nl.bsn",)})
    assert _only([one, two]) == {"python-stdnum": {"stdnum.us.ssn", "stdnum.nl.bsn"}}
    assert _only([one, Compiled(wheels=("python-stdnum[soap]>=2",))]) == {}


def test_what_ships_of_stdnum_is_enough_to_check_numbers(tmp_path: Path) -> None:
    found = distribution("python-stdnum")
    files = {
        str(path): Path(str(path.locate())).read_bytes()
        for path in found.files or ()
        if path.parts[0] == "stdnum" and path.suffix != ".pyc"
    }
    shipped = reached(files, ["stdnum.cn.ric", "stdnum.us.ein", "stdnum.nl.bsn"])
    assert len(shipped) < 25
    for path in shipped:
        place = tmp_path / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(files[path])
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "from stdnum.cn import ric; from stdnum.us import ein; from stdnum.nl import bsn\n"
        f"assert ric.__file__.startswith({str(tmp_path)!r})\n"
        "print(ric.is_valid('360426199101010071'), ein.is_valid('91-1144442'), bsn.is_valid('111222333'))"
    )
    done = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "True", "True"]
