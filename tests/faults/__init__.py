"""The faults that every release survives: `make faults`, or `python -m tests.faults --only 1,4`.

A fault has a number, a title, and cases. Each case is run against each subject (the engines `native` and `sdk`, and the
stock SDK as `stock`) on a bench of its own: a directory, scripted servers, and applications, which are processes. To
add one, write it into the module of its kind (`backend`, …; a new one is listed in `registry.MODULES`)::

    @fault(7, "200 with an HTML page")
    def html(bench: Bench) -> None:
        server = bench.server({"status": 200, "body": b"<html>".hex()}, OK)
        told = bench.run("agent.spans(1000); agent.settle()", to=server)
        bench.expect(len(server.requests) == 2, f"sent {len(server.requests)} requests")

`bench.expect` is a claim of the fault; what it says otherwise is printed. For our engines that makes the line FAIL; of
the stock SDK it is one of the things that it does. With `cases={"date": ..., "NaN": ...}` the function gets the value
as its second argument. The same number may have more functions, each with cases: the first says the title, the others
`fault(7, cases=...)`. `stock="it has no spool"` leaves the stock SDK out and says why. `idle=True` is for a case
that mostly waits: such ones don't take turns with the others.

The program of `bench.run` is Python source that finds `agent`, see `application`; `bench.start` doesn't wait for its
end; `bench.command` runs a whole command, whose Python processes say `from tests.faults.application import start`.
What isn't run by the bench is counted by `bench.add`.

The bench checks what holds for every fault, see `outcome.judge`: the equation, that what the ledgers call delivered is
what the servers took, each span once, that nothing is lost but what is counted, that `flush()` tells the truth, and
that nothing is raised into the application. Where a fault makes one of that unknowable, it says so on the bench:
`bench.twice = True` (what was taken may come again), `bench.unanswered = True` (the servers may have taken more than
the ledgers know), `bench.killed = True` (an application died before it could say its last: its ledger is not the last
word). Where each span goes to several places, `bench.destinations` says to how many.
"""

import sys
from pathlib import Path

# For `backends`, the real collector; pytest finds it by itself.
sys.path.append(str(Path(__file__).resolve().parents[2] / "collector-config"))
