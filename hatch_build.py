"""Build hook: the pure rooms that decide most, compiled with mypyc into a wheel of this machine.

Off unless `HATCH_BUILD_HOOKS_ENABLE` says otherwise (ADR 0016). It works in a folder of its own and
puts nothing into `src/`, where a compiled module would hide the source that somebody edits.
"""

import os
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class CompileHook(BuildHookInterface):
    """Adds a compiled module beside each source file that `modules` of the hook's table names."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """In: the table in `pyproject.toml`. Out: files and tag of the wheel, in `build_data`."""
        if version == "editable":
            return
        from mypyc.build import mypycify
        from setuptools import Distribution
        from setuptools.command.build_ext import build_ext

        self._work = tempfile.TemporaryDirectory(prefix="sconto-compile-")
        work = Path(self._work.name)
        os.chdir(self.root)
        paths = [f"src/sconto/{name}.py" for name in self.config["modules"].split()]
        cache = f"--cache-dir={work / 'mypy'}"
        extensions = mypycify([cache, *paths], target_dir=str(work / "c"), group_name="sconto")
        command = build_ext(Distribution({"name": "sconto", "ext_modules": extensions}))
        command.build_lib, command.build_temp = str(work / "lib"), str(work / "obj")
        command.parallel = os.cpu_count()
        command.ensure_finalized()
        command.run()
        for file in map(Path, command.get_outputs()):
            build_data["force_include"][str(file)] = str(file.relative_to(work / "lib"))
        build_data["pure_python"], build_data["infer_tag"] = False, True

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """The wheel is written."""
        if version != "editable":
            self._work.cleanup()
