"""Execute a notebook in a folder, with this interpreter whatever kernels the machine has.

``python execute.py NOTEBOOK FOLDER`` writes the executed notebook over NOTEBOOK; a failing cell ends it with its
traceback, and what was shown until then is written. It is a process of its own because Jupyter's sockets outlive a
failed run.
"""

from __future__ import annotations

import sys
from pathlib import Path


def main(path: Path, folder: Path) -> None:
    import nbformat
    from ipykernel.kernelspec import write_kernel_spec
    from jupyter_client.kernelspec import KernelSpecManager
    from jupyter_client.manager import AsyncKernelManager
    from nbclient import NotebookClient

    kernels = path.parent / "kernels"
    write_kernel_spec(kernels / "python3")
    specs = KernelSpecManager(kernel_dirs=[str(kernels)], ensure_native_kernel=False)
    manager = AsyncKernelManager(kernel_name="python3", kernel_spec_manager=specs)
    notebook = nbformat.read(path, as_version=4)
    try:
        NotebookClient(notebook, km=manager, timeout=300, resources={"metadata": {"path": str(folder)}}).execute()
    finally:
        nbformat.write(notebook, path)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
