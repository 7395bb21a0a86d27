"""`python -m bridge.sandbox.whatsapp --port 0 --journal FILE --webhook-url URL --app-secret-env NAME`: run the pretend WhatsApp.

Prints one ready line of JSON. Secrets come by the *name* of an environment variable, so that they never show in `ps`.
"""

from __future__ import annotations

import argparse
import asyncio
import os
from pathlib import Path

from bridge.sandbox.journal import Journal
from bridge.sandbox.server import Listeners, run_until_stopped
from bridge.sandbox.whatsapp.control import Control
from bridge.sandbox.whatsapp.phones import Limits
from bridge.sandbox.whatsapp.server import Options, WhatsApp


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bridge.sandbox.whatsapp", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 picks a free one")
    parser.add_argument("--journal", type=Path, required=True)
    parser.add_argument("--webhook-url", required=True, help="where the engine's door is: …/whatsapp/<app>/webhook")
    parser.add_argument(
        "--app-secret-env", required=True, help="environment variable with the secret that signs webhooks"
    )
    parser.add_argument(
        "--token-env", default="", help="environment variable with the only bearer accepted; unset: any"
    )
    parser.add_argument("--verify-token-env", default="")
    parser.add_argument("--phone-number-id", action="append", default=[], help="may be given several times")
    parser.add_argument("--waba-id", default="102290129340398")
    parser.add_argument("--display", default="15550783881")
    parser.add_argument("--templates", type=Path, help="folder of config/templates: what Meta has approved")
    parser.add_argument("--polite", action="store_true", help="webhooks one by one, in order, once (the demo's page)")
    parser.add_argument("--seed", type=int, default=1, help="of the mischief")
    parser.add_argument("--retry-base", type=float, default=30.0, help="seconds before the first redelivery; doubles")
    parser.add_argument("--batch", type=int, help="most updates in one webhook")
    parser.add_argument("--throughput", type=float, default=80.0, help="messages a second of a number; 0 = no limit")
    parser.add_argument("--pair-seconds", type=float, default=6.0, help="0 = no pair rate")
    parser.add_argument("--tier", type=int, default=0, help="unique people outside the window in 24 h; 0 = unlimited")
    parser.add_argument(
        "--read-after", type=float, default=0.4, help="seconds until people read; negative: never by themselves"
    )
    parser.add_argument("--follow-stdin", action="store_true", help="end when stdin does")
    return parser.parse_args()


async def run(args: argparse.Namespace) -> None:
    journal = Journal(args.journal, "whatsapp")
    options = Options(
        webhook_url=args.webhook_url,
        app_secret=os.environ[args.app_secret_env],
        token=os.environ[args.token_env] if args.token_env else "",
        verify_token=os.environ[args.verify_token_env] if args.verify_token_env else "",
        waba_id=args.waba_id,
        display=args.display,
        templates=args.templates,
        polite=args.polite,
        seed=args.seed,
        limits=Limits(throughput=args.throughput, pair_seconds=args.pair_seconds, tier=args.tier),
    )
    if args.phone_number_id:
        options.phone_number_ids = tuple(args.phone_number_id)
    whatsapp = WhatsApp(journal, options)
    manners = whatsapp.courier.manners
    manners.retry_base, manners.read_after = args.retry_base, args.read_after
    manners.batch = args.batch or manners.batch
    control = Control(whatsapp)
    listeners = Listeners(whatsapp.serve, control.serve, args.host, args.port)
    control.listeners = listeners
    await whatsapp.courier.start()
    await listeners.start()
    whatsapp.base = listeners.url
    journal.record("note", event="started", base=whatsapp.base)
    try:
        await run_until_stopped(listeners, {"base": whatsapp.base}, follow_stdin=args.follow_stdin)
    finally:
        await whatsapp.courier.stop()
        await listeners.stop()
        journal.close()


if __name__ == "__main__":
    asyncio.run(run(arguments()))
