"""Prices, and what was used, as far as the client asks: `modal.Workspace...billing.rates()` and `.report()`."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Any

from modal_proto import api_pb2

from plane.state import Task, World

_HOURLY = {"H100": 3.95, "H200": 4.54, "A100-80GB": 2.50, "A100-40GB": 2.10, "T4": 0.59}  # USD, where none are set


class Billing:
    def __init__(self, world: World) -> None:
        self.world = world

    async def WorkspaceBillingRates(self, request: Any, task: Task | None) -> Any:
        """Names and units of Modal's own keys are not known: these are the GPU's names, in USD per hour."""
        rates = {kind: f"{price:.4f}" for kind, price in (self.world.settings.rates or _HOURLY).items()}
        return api_pb2.WorkspaceBillingRatesResponse(rates=rates, formatted=str(rates))

    async def WorkspaceBillingReport(self, request: Any, task: Task | None) -> AsyncIterator[Any]:
        """One row for each app: the hours of its containers at the rate of the GPU that they asked for."""
        rates = self.world.settings.rates or _HOURLY
        for app in self.world.apps.values():
            calls = [call for call in self.world.calls.values() if call.function.app is app]
            cost = sum(
                ((one.ended or time.time()) - one.started)
                / 3600
                * rates.get(one.definition.resources.gpu_config.gpu_type, 0)
                for call in calls
                for one in call.tasks
                if one.started
            )
            wanted = (
                app.tags if "*" in request.tag_names else {name: app.tags.get(name, "") for name in request.tag_names}
            )
            item = api_pb2.WorkspaceBillingReportItem(
                object_id=app.id, description=app.description, environment_name="main", cost=f"{cost:.6f}", tags=wanted
            )
            item.interval.FromNanoseconds(int(app.created * 1e9))
            yield item
