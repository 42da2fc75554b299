"""Which requests share a batch, and which wait for whom."""

import asyncio
from dataclasses import dataclass, field

from ehr.store.coalescing import Coalescer


@dataclass(eq=False)
class Request:
    name: str
    rows: frozenset[int] = frozenset()
    weight: int = 1
    future: "asyncio.Future[str]" = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Served:
    """Batches in the order in which they were begun; a batch ends when it is told to."""

    def __init__(self, **options: float) -> None:
        self.batches: list[list[str]] = []
        self.gates: list[asyncio.Event] = []
        self.queue: Coalescer[Request] = Coalescer(
            self.serve, most=4, patience_s=0.001, rows=lambda request: request.rows, **options
        )

    async def serve(self, batch: list[Request]) -> None:
        self.batches.append([request.name for request in batch])
        gate = asyncio.Event()
        self.gates.append(gate)
        await gate.wait()
        for request in batch:
            request.future.set_result(request.name)

    def submit(self, name: str, *rows: int) -> "asyncio.Task[None]":
        return asyncio.ensure_future(self.queue.submit(Request(name, frozenset(rows))))


async def test_a_spare_lane_takes_what_the_first_does_not_lock_and_keeps_the_order_of_each_row() -> None:
    served = Served()
    tasks = [served.submit("a", 1, 2)]
    await asyncio.sleep(0)
    tasks += [served.submit(name, *rows) for name, rows in (("b", (2, 3)), ("c", (3,)), ("d", (4,)), ("e", ()))]
    await asyncio.sleep(0.02)
    assert served.batches == [["a"], ["d", "e"]], "b waits for a, and c for b"
    served.gates[1].set()
    await asyncio.sleep(0.02)
    assert served.batches == [["a"], ["d", "e"]]
    served.gates[0].set()
    await asyncio.sleep(0.02)
    assert served.batches[2:] == [["b", "c"]], "requests for the same row share a batch, in their order"
    served.gates[2].set()
    await asyncio.gather(*tasks)
    tasks = [served.submit("f", 1)]
    await asyncio.sleep(0.02)
    assert served.batches[3:] == [["f"]], "nothing stays locked"
    served.gates[3].set()
    await asyncio.gather(*tasks)


async def test_a_batch_has_a_weight() -> None:
    served = Served(lanes=1)
    tasks = [served.submit(f"{number}") for number in range(6)]
    await asyncio.sleep(0.01)
    served.gates[0].set()
    await asyncio.sleep(0.01)
    served.gates[1].set()
    await asyncio.gather(*tasks)
    assert served.batches == [["0", "1", "2", "3"], ["4", "5"]]
