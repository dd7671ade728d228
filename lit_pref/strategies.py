"""ZeRO on processes without a GPU, to try out what is to run on many. Knows Lightning's strategy; nothing of models."""

import torch
from lightning.pytorch.accelerators import CPUAccelerator
from lightning.pytorch.strategies import DeepSpeedStrategy

from .errors import ConfigError


class CPUDeepSpeed(DeepSpeedStrategy):
    """Lightning's DeepSpeedStrategy on CPU processes that talk by gloo: slow, and the same numbers.

    For tests and dry runs of ZeRO stages 1, 2 and 3; it takes the arguments of Lightning's class, which is the one to
    name on GPUs. DeepSpeed itself runs on CPUs; what is mended here is that Lightning refuses to start it there, and
    that CPUs have no index, by which DeepSpeed numbers processes.
    """

    strategy_name = "deepspeed_cpu"

    def setup_environment(self) -> None:
        """Start the processes' group.

        Raises:
            ConfigError: the processes have GPUs.
        """
        if not isinstance(self.accelerator, CPUAccelerator):
            raise ConfigError(
                "trainer.strategy is CPUDeepSpeed, but trainer.accelerator is not cpu.\n"
                "  Fix: on GPUs name lightning.pytorch.strategies.DeepSpeedStrategy, e.g. by configs/strategies/."
            )
        super(DeepSpeedStrategy, self).setup_environment()  # past Lightning's refusal of anything but CUDA

    @property
    def parallel_devices(self) -> list[torch.device] | None:
        """One device a process; all are the same CPU, whatever the index says."""
        return self._parallel_devices

    @parallel_devices.setter
    def parallel_devices(self, devices: list[torch.device] | None) -> None:
        numbered = None if devices is None else [torch.device("cpu", i) for i in range(len(devices))]
        self._parallel_devices = numbered

    def _init_deepspeed_distributed(self) -> None:
        """Processes talk by gloo alone: DeepSpeed would compile an extension for shared memory, where it finds a
        compiler, which takes minutes and adds nothing to a dry run."""
        import deepspeed

        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
        super()._init_deepspeed_distributed()
