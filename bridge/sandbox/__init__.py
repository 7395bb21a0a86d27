"""A pretend EHR and a pretend WhatsApp: processes of their own that behave like the real ones, faults included.

    python -m bridge.sandbox.ehr      --port 0 --journal ehr.jsonl
    python -m bridge.sandbox.whatsapp --port 0 --journal wa.jsonl --webhook-url URL --app-secret-env NAME --templates DIR

Each prints one line when it listens: `{"ready": true, "url": …, "control": …, "base": …}`. `base` is what the engine's
config names (`ehrs.*.base_url`, `numbers.*.base_url`); the control API (`/_sandbox/…`, described at the top of
`ehr/control.py` and `whatsapp/control.py`) answers on both ports, and on `control` also while the other one refuses
connections. `launch.py` starts both from Python; `people.py` has the invented people.

**The journal** is the witness that every ✓ of the demo and every judge of a kill test reads: JSON lines, appended, one
`seq` more each, handed to the operating system before the answer they tell of leaves. Members of a line:

- `seq`, `at` (wall time, seconds), `who` ("ehr" | "whatsapp"), `dir`:
  - `"in"`: a request we got and what we answered. `method`, `path`, `status` (null: no answer left), `headers` (EHR: the
    conditional ones), `body`, `answer`, `ids`; `fault` when one was met; **`effect`** when it changed something:
    `"message"` (a message is on its way to a patient; `ids.wamid`, `ids.to`, `ids.callback`) or `"write"` (the EHR holds
    a new version; `ids.written` = `["Appointment/a1/_history/3"]`). An effect counts whether or not its answer arrived.
    A refused message has `ids.code`.
  - `"out"`: a request we make (webhook, notification): `method`, `path`, `headers`, `body`, `ids` (WhatsApp: `updates` =
    wamids and `wamid|status`, `attempts`; EHR: `subscription`, `focus`, `version`, `attempt`).
  - `"answer"`: what the request with seq `of` was answered: `status` (null: none), `delivered`, `error`.
  - `"note"`: `event` = started, clerk (a change made in the EHR itself), control (an action), faults, down, notification lost…

Secrets never stand in a journal; invented patients' words and numbers do.

**Manners.** WhatsApp is hostile unless told `--polite`: webhooks batch, double, come late and out of order (seeded), and
what met a closed door or anything but 200 comes again after 30 s, doubling, newer ones first. The EHR keeps no order
between two notifications of one Subscription and tries again for a minute, as HAPI does.
"""
