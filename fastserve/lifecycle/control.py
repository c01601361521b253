"""Loading and unloading on request: by writing what is wished for, so that every worker does the same."""

import asyncio
import time
from typing import Any

from fastserve.errors import ModelNotFound, NotReady
from fastserve.lifecycle.manager import Manager
from fastserve.lifecycle.states import VersionState
from fastserve.lifecycle.watch import Watcher
from fastserve.registry import Registry

_LOOK_S = 0.01
_PATIENCE_S = 60.0


class LoadControl:
    """Writes the desired state of a model and waits until this worker has reached it. Event loop only."""

    def __init__(self, registry: Registry, manager: Manager[Any], watcher: Watcher) -> None:
        self._registry = registry
        self._manager = manager
        self._watcher = watcher

    async def load(self, model: str) -> None:
        """Wish for a model, and return once it answers here.

        Raises
        ------
        ModelNotFound
            The registry has no such model.
        NotReady
            Its versions cannot be loaded, or not in time; the reason is that of the newest.
        RegistryError
            The desired state cannot be written.
        """
        await self._reach(model, loaded=True)
        records = [record for record in self._manager.records() if record.model == model]
        if not records:
            raise NotReady(model, "", "it has no version")
        if not any(record.state is VersionState.READY for record in records):
            raise NotReady(model, str(records[-1].version), records[-1].reason)

    async def unload(self, model: str) -> None:
        """Wish a model away, and return once nothing of it is served here; what was asked before is answered.

        Raises
        ------
        ModelNotFound, NotReady, RegistryError
        """
        await self._reach(model, loaded=False)

    async def _reach(self, model: str, *, loaded: bool) -> None:
        if model not in self._manager.models():
            raise ModelNotFound(model)
        await asyncio.get_running_loop().run_in_executor(None, self._registry.set_loaded, model, loaded)
        if loaded:
            self._manager.try_again(model)
        self._watcher.look()
        give_up_s = time.monotonic() + _PATIENCE_S
        while not self._manager.settled_on(model, loaded):
            if time.monotonic() > give_up_s:
                raise NotReady(model, "", f"it is still on its way after {_PATIENCE_S:.0f} s")
            await asyncio.sleep(_LOOK_S)
