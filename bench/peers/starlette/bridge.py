"""A bridge as an engineer writes it in a day. `uvicorn bridge:web`: doors and worker in one process, as Procrastinate's guide has it."""

import asyncio
import contextlib
import hmac
import os
from datetime import datetime
from zoneinfo import ZoneInfo

import httpx
import procrastinate
from psycopg.types.json import Jsonb
from psycopg_pool import AsyncConnectionPool
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

ENV = os.environ
SCHEMA = """CREATE TABLE IF NOT EXISTS message (key text PRIMARY KEY, wamid text NOT NULL);
CREATE TABLE IF NOT EXISTS status (wamid text, status text, at bigint, PRIMARY KEY (wamid, status))"""
RECORD = "INSERT INTO status SELECT * FROM jsonb_to_recordset(%s) AS x(w text, s text, t bigint) ON CONFLICT DO NOTHING"
DAYS = "lunes martes miércoles jueves viernes sábado domingo".split()  # noqa: SIM905
MONTHS = "enero febrero marzo abril mayo junio julio agosto septiembre octubre noviembre diciembre".split()  # noqa: SIM905
EHR, META = ({"Authorization": f"Bearer {ENV[name]}"} for name in ("EHR_TOKEN", "META_TOKEN"))
MESSAGES = f"{ENV['WHATSAPP_URL']}/v23.0/{ENV['PHONE_NUMBER_ID']}/messages"
jobs = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=ENV["STORE"], min_size=4, max_size=20))
pool = AsyncConnectionPool(ENV["STORE"], min_size=4, max_size=20, open=False, kwargs={"autocommit": True})
http = httpx.AsyncClient(timeout=20, limits=httpx.Limits(max_connections=32, max_keepalive_connections=32))
kept: dict[str, dict] = {}  # places and doctors: few, and the same for everybody


async def query(sql: str, *values: object):
    async with pool.connection() as connection:
        return await connection.execute(sql, values or None)


async def read(reference: str, keep: bool = True) -> dict:
    if reference in kept:
        return kept[reference]
    answer = (await http.get(f"{ENV['EHR_URL']}/{reference}", headers=EHR)).raise_for_status()
    return kept.setdefault(reference, answer.json()) if keep else answer.json()


def payload(visit: dict, key: str, patient: dict, doctor: dict, place: dict) -> dict:
    at = datetime.fromisoformat(visit["start"]).astimezone(ZoneInfo("Europe/Madrid"))
    values = {
        "patient_name": patient["name"][0]["given"][0],
        "day": f"{DAYS[at.weekday()]}, {at.day} de {MONTHS[at.month - 1]} de {at.year}",
        "time": f"{at.hour}:{at.minute:02}",
        "doctor": f"{doctor['prefix'][0]} {doctor['family']}",
        "place": place["name"],
    }
    texts = [{"type": "text", "parameter_name": name, "text": text} for name, text in values.items()]
    to = next(one["value"] for one in patient["telecom"] if one["system"] == "phone").lstrip("+")
    template = {"name": "appointment_booked", "language": {"code": "es"}}
    template["components"] = [{"type": "body", "parameters": texts}]
    message = {"messaging_product": "whatsapp", "recipient_type": "individual", "to": to, "type": "template"}
    return message | {"template": template, "biz_opaque_callback_data": key}


@jobs.task(queue="send", retry=procrastinate.RetryStrategy(max_attempts=10, wait=2))
async def send(key: str, visit: dict) -> None:
    """Jobs of one key run one after the other (its lock), so that looking before sending is enough."""
    if (await query("SELECT 1 FROM message WHERE key = %s", key)).rowcount:
        return
    actors = {one["actor"]["reference"].split("/")[0]: one["actor"]["reference"] for one in visit["participant"]}
    patient = await read(actors["Patient"], keep=False)
    doctor, place = (await read(actors["Practitioner"]))["name"][0], await read(actors["Location"])
    answer = await http.post(MESSAGES, json=payload(visit, key, patient, doctor, place), headers=META)
    wamid = answer.raise_for_status().json()["messages"][0]["id"]
    await query("INSERT INTO message VALUES (%s, %s) ON CONFLICT DO NOTHING", key, wamid)


@jobs.periodic(cron="* * * * * */5")
@jobs.task(queueing_lock="retry_stalled", pass_context=True)
async def retry_stalled(context: procrastinate.JobContext, timestamp: int) -> None:
    for job in await jobs.job_manager.get_stalled_jobs(seconds_since_heartbeat=5):
        await jobs.job_manager.retry_job(job)


async def appointment(request: Request) -> Response:
    if not hmac.compare_digest(request.headers.get("authorization", ""), f"Bearer {ENV['EHR_DOOR_SECRET']}"):
        return Response(status_code=401)
    visit = await request.json()
    key = f"Appointment/{visit['id']}/_history/{visit['meta']['versionId']}"
    if visit["status"] == "booked":
        await send.configure(lock=key).defer_async(key=key, visit=visit)
    return Response(status_code=200)


async def webhook(request: Request) -> Response:
    body = await request.body()
    signed = "sha256=" + hmac.new(ENV["META_APP_SECRET"].encode(), body, "sha256").hexdigest()
    if not hmac.compare_digest(signed, request.headers.get("x-hub-signature-256", "")):
        return Response(status_code=401)
    values = [change["value"] for entry in (await request.json())["entry"] for change in entry["changes"]]
    rows = [{"w": s["id"], "s": s["status"], "t": int(s["timestamp"])} for v in values for s in v.get("statuses", ())]
    await query(RECORD, Jsonb(rows))
    return Response(status_code=200)


@contextlib.asynccontextmanager
async def lifespan(_: Starlette):
    async with pool, http, jobs.open_async():
        await query(SCHEMA)
        if (await (await query("SELECT to_regclass('procrastinate_jobs')")).fetchone())[0] is None:
            await jobs.schema_manager.apply_schema_async()
        heartbeat = {"update_heartbeat_interval": 1, "stalled_worker_timeout": 5}
        worker = asyncio.create_task(jobs.run_worker_async(concurrency=32, install_signal_handlers=False, **heartbeat))
        yield
        worker.cancel()
        await asyncio.gather(worker, return_exceptions=True)


DOORS = {
    "/ehr/main/appointments/Appointment/{id}": (appointment, "PUT"),
    "/whatsapp/hospital/webhook": (webhook, "POST"),
}
web = Starlette(lifespan=lifespan, routes=[Route(path, door, methods=[verb]) for path, (door, verb) in DOORS.items()])
