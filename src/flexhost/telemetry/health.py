"""Whether the host and the parts its functions watch over are well."""

from __future__ import annotations

from collections.abc import Callable

from flexhost.functions.flex_fun import ModuleHealthStatus


class Health:
    """The `ctx.health` of `on_load`: live while the host is and no part is reported NOT_OK."""

    def __init__(self, host_is_live: Callable[[], bool] = lambda: True) -> None:
        self._host_is_live = host_is_live
        self._statuses: dict[str, ModuleHealthStatus] = {}

    def set_module_status(self, name: str, status: ModuleHealthStatus) -> None:
        # compared by value: hosted code may bring an enum of its own with the same members
        self._statuses[name] = ModuleHealthStatus(status.value)

    @property
    def module_statuses(self) -> dict[str, ModuleHealthStatus]:
        return dict(self._statuses)

    @property
    def live(self) -> bool:
        well = ModuleHealthStatus.NOT_OK not in self._statuses.values()
        return well and self._host_is_live()
