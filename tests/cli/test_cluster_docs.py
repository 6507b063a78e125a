"""The job for SLURM in docs/cluster.md starts the processes that it asks the trainer for."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from dfm_lightning.cli import main
from dfm_lightning.cli.surroundings import check_processes, find_starter

PAGE = Path(__file__).parents[2] / "docs" / "cluster.md"
RECORD = '#!/bin/bash\nprintf "%s\\n" "$@" > started.txt\n'


def job() -> str:
    block = re.search(r"(?m)^    #!/bin/bash\n(?:(?:    .*)?\n)+", PAGE.read_text())
    assert block is not None
    return re.sub(r"(?m)^    ", "", block.group())


def test_the_job_fits_its_processes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = job()
    asked = dict(re.findall(r"(?m)^#SBATCH --([\w-]+)=(\S+)$", text))
    tasks = int(asked["nodes"]) * int(asked["ntasks-per-node"])
    variables = {
        "SLURM_JOB_NAME": asked["job-name"], "SLURM_NNODES": asked["nodes"], "SLURM_NTASKS": str(tasks),
        "SLURM_NTASKS_PER_NODE": asked["ntasks-per-node"], "SLURM_CPUS_PER_TASK": asked["cpus-per-task"],
        "SLURM_SUBMIT_DIR": str(folder), "SLURM_JOB_ID": "1",
    }  # fmt: skip
    programs = folder / "dfm-lightning" / ".venv" / "bin"
    programs.mkdir(parents=True)
    (programs / "activate").write_text(f'export PATH="{programs}:$PATH"\n')
    (programs / "srun").write_text(RECORD)
    (programs / "srun").chmod(0o755)
    (folder / "job.sbatch").write_text(text)
    environment = {**os.environ, **variables, "HOME": str(folder)}
    subprocess.run(["bash", "job.sbatch"], check=True, env=environment)

    started = (folder / "started.txt").read_text().split()
    dfm = started.index("dfm")
    assert "--kill-on-bad-exit=1" in started[:dfm]
    arguments = started[dfm + 1 :]
    devices, nodes = (
        int(arguments[arguments.index(f"--trainer.{name}") + 1]) for name in ("devices", "num_nodes")
    )
    for name, value in {**variables, "SLURM_PROCID": "7", "SLURM_LOCALID": "3", "SLURM_NODEID": "1"}.items():
        monkeypatch.setenv(name, value)
    check_processes(find_starter(), devices, nodes)
    assert main([*arguments, "--print_config"]) == 0
