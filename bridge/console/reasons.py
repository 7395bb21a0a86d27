"""Every reason that the code writes beside a fate or a state, as a sentence: what happened, and what to do about it.

One catalogue for `bridge why` and the console. A reason that is not in it (a mapping author's own words, an answer of
the EHR's) is quoted, and the fate or state beside it says the rest. A test collects the reasons from the code and fails
when one has no sentence here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from bridge.outbound.reactions import BY_CODE, BY_HTTP, REDIRECTED, REFUSED, SERVER_ERROR, UNKNOWN_CODE, Reaction

NOTHING = "Nothing to do."
WAIT = "Nothing to do: it goes on by itself."
REPORT = "Look into the engine's log at that time and report it with the id; `bridge replay` decides the event again."
READ = "Give `ehrs.<key>.base_url` in bridge.yaml, so that bridge can read what a push leaves open."
EHR_DOWN = "Nothing to do unless it lasts: it is tried again by itself. Then see whether the EHR answers bridge at all."
DOUBTS = "`bridge doubts` lists it: look on the phone or ask the patient, then resend it or close it there."
CALL = "Tell the patient another way if it matters."
DESK = "Correct it in the EHR; a new version of the record is told at once."


PATIENTS = re.compile(r"(?:\A|; )(?=Patient/[^\s:]+: )")  # where the reasons of one patient of several begin


@dataclass(frozen=True, slots=True)
class Told:
    """One reason in words. Both are whole sentences."""

    happened: str
    todo: str
    known: bool = True  # False: the words are somebody else's, and the fate speaks for them


_SENTENCES: tuple[tuple[str, str, str], ...] = (
    # --- what an event came to
    ("our own write", "It was bridge's own change of the record, as the patient had asked for it here.", NOTHING),
    ("consent", "It says what the patient permits; bridge noted it and tells nobody.", NOTHING),
    ("person", "The person's own record changed; bridge noted numbers, language and standing.", NOTHING),
    ("reply", "It was read and answered.", NOTHING),
    ("status", "It says how a message of ours fares; that is noted on the message.", NOTHING),
    ("sent|delivered|read|played|deleted", "It says that a message of ours is {0}.", NOTHING),
    ("failed|warning", "It says that a message of ours is in trouble ({0}).",
     "Look at the message itself: its own sentence says why and what to do."),
    ("handshake", "The EHR tried whether bridge answers; it did.", NOTHING),
    ("heartbeat", "The EHR said that it is alive.", NOTHING),
    ("query-status", "The EHR asked how its Subscription fares.", NOTHING),
    ("searched: {} found", "It named nothing, so bridge searched the EHR: {0} found and read.", NOTHING),
    ("template {}", "Meta says of a template: {0}.",
     "If it is not APPROVED, mend the template in WhatsApp Manager; its messages wait."),
    ("number {}", "Meta says of our number: {0}.",
     "If it is FLAGGED, send less and look at what patients report in WhatsApp Manager."),
    ("messaging limit", "Meta set how many patients a day may be written to first.", NOTHING),
    ("ACCOUNT_{}|DISABLED_UPDATE|{}_VIOLATION", "Meta says that something is wrong with the account.",
     "Look at the account in WhatsApp Manager."),
    ("Meta flagged its quality|Meta reports {}", "Meta has something against our number or its account.",
     "Look at WhatsApp Manager; after five minutes bridge tries one message a second until one is taken."),
    ("the account is reinstated", "Meta lifted what it held against the account; messages go on.", NOTHING),
    ("template category: of a template that is not ours", "Meta moved a template that bridge does not use.", NOTHING),
    ("template category {}", "Meta put a template into another category: {0}.",
     "If it is not UTILITY, appeal in WhatsApp Manager or reword the template; its messages wait."),
    ("marketing messages are wanted again", "Somebody wants marketing messages in WhatsApp again.", NOTHING),
    ("user_preferences: nothing of ours is marketing",
     "Somebody changed in WhatsApp whether they want marketing messages; ours are none.", NOTHING),
    ("{}: kept, nothing here acts on it", "WhatsApp told us something that bridge has no use for ({0}).", NOTHING),
    ("{}: nothing here reads it", "It is about a kind of resource that bridge does not read ({0}).",
     "Leave it out of the Subscription at the EHR, to save both sides work."),
    ("nothing a patient would notice", "Nothing that a patient would notice has changed.", NOTHING),
    ("no patient is named in it", "The record names no patient, so there is nobody to tell.", DESK),
    ("nobody we have written to yet", "It is a person to whom bridge has never written.", NOTHING),
    ("back to what the patient was told",
     "It was changed and changed back before anything was told: the patient knows it already.",
     NOTHING),
    ("says what we hold already", "The EHR sent again what bridge knew already.", NOTHING),
    ("the EHR holds what we hold already", "The EHR was read, and holds what bridge knew already.", NOTHING),
    ("a read begun later has been applied", "A newer look into the EHR had answered it already.", NOTHING),
    ("overtaken before it was applied", "A newer version came before this one was dealt with; that one counts.",
     NOTHING),
    ("answered by a read", "The EHR was read instead, and what it holds counts.", NOTHING),
    ("one read answers all", "Several pushes came together; one look into the EHR answered them.", NOTHING),
    ("one search answers all", "Several pushes that name nothing came together; one search answered them.", NOTHING),
    ("stale, no read access",
     "It is older than what bridge knows, or does not say how old it is, and bridge may not read the EHR to see.",
     READ),
    ("no read access", "The push did not carry the person's record, and bridge may not read the EHR.", READ),
    ("names nothing, no read access", "The push names nothing, and bridge may not search the EHR for what changed.",
     READ),
    ("the EHR does not have it (any more)", "The EHR does not have the record (any more).",
     "If it should be there, look for it in the EHR; otherwise nothing."),
    ("the EHR refused to show it to us", "The EHR refused to show bridge the record.",
     "Give bridge's user at the EHR the right to read this kind of record, then `bridge replay` the event."),
    ("not primed: run `bridge prime` first",
     "This EHR has not been primed, so bridge cannot tell what is new and says nothing.",
     "Run `bridge prime` for this EHR, or set `prime: none`."),
    ("no mapping for {}", "No mapping of this site speaks of {0}.",
     "If patients should hear of it, write a mapping for it in config/mappings (docs/mapping.md)."),
    ("results are off until the site signs a basis (results.enabled)",
     "Messages about results are switched off at this site.",
     "Set `results.enabled: true` once the site has signed its basis for them."),
    ("foreign number", "It came for a WhatsApp number that is not this site's.",
     "If the number is yours, add it to `numbers` in bridge.yaml; else remove the webhook from its app."),
    ("a message from nobody: neither number nor user id", "WhatsApp did not say who wrote it.",
     "`bridge show` has what came; report it to Meta if it happens again."),
    ("the status of a call", "It is about a telephone call, which bridge does not make.", NOTHING),
    ("not the status of a message", "It is a status of something that is no message.", NOTHING),
    ("names no message of ours", "It is the status of a message that bridge did not send.",
     "If another system sends from this number, give bridge a number of its own."),
    ("names no message of ours yet", "It is the status of a message whose sending is not recorded yet.", WAIT),
    ("its number is no longer in the config", "It came for a number that bridge.yaml no longer has.",
     "Put the number back into `numbers` until what came for it is answered."),
    ("its EHR is no longer in the config", "It came from an EHR that bridge.yaml no longer has.",
     "Put the EHR back into `ehrs`, then `bridge replay` the event."),
    ("not a status", "The stored row is not what its kind says.", REPORT),
    ("it could not be made: {}", "bridge failed while it made the message ({0}).", REPORT),
    ("its row cannot be read: {}", "What is stored of it cannot be read.",
     "If a data key was removed from `security.data_keys`, put it back; else report it with the id."),
    ("applying failed: {}",
     "Something went wrong inside bridge while it was applied ({0}); it was set aside so that the rest goes on.",
     REPORT),
    ("deciding failed: {}",
     "Something went wrong inside bridge while it was decided ({0}); it was set aside so that the rest goes on.",
     REPORT),
    ("answering failed: {}",
     "Something went wrong inside bridge while it was answered ({0}); it was set aside so that the rest goes on.",
     "A person should read and answer what the patient wrote; report it with the id."),
    ("not an? {} with an id: nothing can be tracked|not a Consent with an id",
     "The record lacks its id or is of another kind, so bridge cannot follow it.",
     DESK),
    ("neither a Patient nor a RelatedPerson with an id", "The person's record lacks its id or is of another kind.",
     DESK),
    ("{}: without status", "{0} has no status, so nobody knows what holds.", DESK),
    ("{}: its start is no instant with an offset",
     "{0} does not say its start with date, time and zone, which no message can put into words.",
     DESK),
    ("{}: {} without start", "{0} is {1} and has no start, which no message can put into words.", DESK),
    # --- what waits
    ("waits for `bridge prime` to end", "It waits until `bridge prime` has read what the EHR holds already.", WAIT),
    ("the EHR does not have it yet (404)", "The EHR announced a record that it cannot show yet.", EHR_DOWN),
    ("the EHR does not accept our credentials (401)", "The EHR does not accept bridge's credentials.",
     "Renew `ehrs.<key>.auth` and restart; what waits is told then."),
    ("the EHR cannot be read: {}|the EHR cannot be read", "The EHR could not be read.", EHR_DOWN),
    # --- to whom
    ("no phone number that WhatsApp could reach|the patient has no phone number that WhatsApp could reach",
     "The patient has no mobile number in the EHR that WhatsApp could reach.",
     "Add or correct the mobile number in the EHR."),
    ("has no phone number that WhatsApp could reach",
     "The guardian has no mobile number in the EHR that WhatsApp could reach.",
     "Add or correct the mobile number in the EHR."),
    ("minor without a guardian we may write to ({})",
     "The patient is a minor, and none of the guardians may be written to ({0}).",
     "Complete the guardian's record (RelatedPerson) in the EHR."),
    ("patient without a guardian we may write to ({})",
     "This message is for a guardian, and none may be written to ({0}).",
     "Complete the guardian's record (RelatedPerson) in the EHR."),
    ("minor without a guardian we may write to", "The patient is a minor, and the EHR names no guardian.",
     "Add the guardian (RelatedPerson) with a mobile number in the EHR."),
    ("patient without a guardian we may write to", "This message is for a guardian, and the EHR names none.",
     "Add the guardian (RelatedPerson) with a mobile number in the EHR."),
    ("the patient is a minor and this mapping writes to patients only",
     "The patient is a minor, and the mapping writes to patients only.",
     "Set `recipient.who: guardian-if-minor` in the mapping, if guardians should get it."),
    ("the EHR does not show the guardian any more", "The EHR no longer shows bridge the guardian.",
     "Look whether the guardian's record (RelatedPerson) was deleted in the EHR."),
    ("the related person is not a guardian", "Whoever was the guardian is none any more, as the EHR says.", DESK),
    ("the relationship is not current", "The relationship to the guardian is not current.", DESK),
    ("is a minor too", "The guardian is a minor too.", DESK),
    ("the patient cannot be read: this EHR has no base_url",
     "The push did not carry the patient, and bridge may not read the EHR.",
     READ),
    ("the EHR does not show the patient ({})", "The EHR does not show bridge the patient ({0}).",
     "Give bridge's user at the EHR the right to read Patient, or look whether the record is still there."),
    ("the EHR does not show the patient any more", "The EHR no longer shows bridge the patient.",
     "Look whether the record was deleted or merged in the EHR."),
    ("the {} has died", "The EHR says that the {0} has died; nobody is written to.",
     "If that is wrong, correct it in the EHR."),
    ("the {} is an animal", "The record is an animal's.", NOTHING),
    ("the {}'s record was replaced by {}", "The {0}'s record was merged into {1}; messages go by that one.",
     "Look whether the visit hangs on the right record in the EHR."),
    ("the {}'s record is not active", "The {0}'s record is not active in the EHR.",
     "Set it active in the EHR, if that is wrong."),
    # --- what a mapping says
    ("quiet hours, and the mapping says to drop it then",
     "It was the patient's quiet hours, and the mapping drops it then.",
     "Set `if_quiet: delay` in the mapping, if it should wait instead."),
    ("reminder {} not needed: skip_if holds", "The reminder {0} before was not needed: the mapping's `skip_if` holds.",
     NOTHING),
    ("the mapping has no text for a guardian", "A guardian would be written to, and the mapping has no text for one.",
     "Add `send.guardian` to the mapping."),
    ("the text would have {} characters, and WhatsApp takes {}",
     "The text would have {0} characters, and WhatsApp takes {1}.",
     "Give the long parameter a `max` in the mapping."),
    ("the header would have {} characters, and WhatsApp takes {}",
     "The line above the text would have {0} characters, and WhatsApp takes {1}.", "Give `send.header` a `max` in the mapping."),
    ("no value for {}: {}", "The message needs {0}, and the record gives none: {1}.",
     "Complete the record, or give the parameter a `default` in the mapping; `bridge preview` shows the value."),
    ("no value for {}", "The message needs {0}, and the record gives none.",
     "Complete the record, or give the parameter a `default` in the mapping; `bridge preview` shows the value."),
    ("reminder {}: covered by the booking message",
     "The reminder {0} before was not planned: its time had passed when the visit was made.",
     NOTHING),
    ("reminder {}: quiet hours last until less than 1 h before the visit",
     "The reminder {0} before was not planned: the quiet hours last until shortly before the visit.",
     NOTHING),
    ("covered by the booking message", "The reminder was not planned: its time had passed when the visit was made.",
     NOTHING),
    ("quiet hours last until less than 1 h before the visit",
     "The quiet hours last until shortly before the visit, so there is no time left for the reminder.",
     CALL),
    ("its mapping is no longer there, or is paused", "Its mapping was taken away or paused before it was due.",
     "Put the mapping back, or set `enabled: true`, if such messages should go on."),
    ("a clinician must release it: {}", "A clinician must release it first: {0}.",
     "A clinician looks at it and releases it (`bridge doubts resend`) or closes it."),
    # --- the document behind a gate
    ("the document is being fetched", "Its reader was let through, and the document is being fetched from the EHR.", WAIT),
    ("the document cannot be read now: {}", "The EHR did not show the document: {0}.", EHR_DOWN),
    ("the document could not be given to WhatsApp: {}", "WhatsApp did not take the document: {0}.",
     "Nothing to do unless it lasts: it is offered six times in five minutes. Then a person answers the patient."),
    ("the document was not taken by WhatsApp: {}", "WhatsApp refused the document: {0}.",
     "Look at the number's token and its rights in WhatsApp Manager, and answer the patient another way."),
    ("the document cannot be read: this EHR has no base_url", "The document is in an EHR that bridge cannot read.", READ),
    ("no document: its mapping is no longer there, or is paused",
     "The mapping that names the document is no longer there, or is paused.", "Answer the patient; look at the mapping."),
    ("no document any more: {}", "The report has changed since: {0}.", "Answer the patient."),
    ("no document: {}", "The report has no document where the mapping's `then.attach` looks for it: {0}.",
     "Look at the report in the EHR and at the mapping's `then.attach.path`; answer the patient."),
    ("the document must be released by a clinician: {}", "The report is held since it was announced: {0}.",
     "A clinician decides, and answers the patient."),
    ("the document is of a kind that WhatsApp does not take", "WhatsApp takes PDF, plain text and office files only.",
     "Answer the patient; let `then.attach.path` choose a PDF."),
    ("the document is larger than {} MB", "The document has more than {0} MB, the mapping's `then.attach.max_mb`.",
     "Answer the patient another way, or raise the limit (WhatsApp takes 100)."),
    ("the document is not shown by the EHR: {}", "The EHR refused to show the document: {0}.",
     "Give bridge the right to read DiagnosticReport and Binary, and answer the patient."),
    ("the document is no longer in the EHR", "The report or its document was deleted in the EHR.", "Answer the patient."),
    ("the document lies outside the EHR, or nowhere",
     "The report points to an address outside its EHR; bridge asks no host that the config does not name.",
     "Answer the patient; the EHR should keep the document as a Binary, or inside the report."),
    ("the document is empty", "The report's document holds nothing that could be read.", "Look at it in the EHR; answer the patient."),
    ("the document cannot be locked: {}", "The document was to open with the birth date only: {0}.",
     "Answer the patient; `then.attach.password: none` sends it open."),
    ("the document could not be sent: a defect of ours", "Fetching or sending the document broke.", REPORT),
    ("the document's row cannot be read: {}", "What was kept of the document cannot be read: {0}.", REPORT),
    ("was let through to a document that could not be sent",
     "Somebody showed who they are, and their document could not be sent.", "Answer the patient; the message says why."),
    # --- a message that has not left yet
    ("waits for its time", "It waits for its time.", WAIT),
    ("quiet hours", "It waits until the patient's quiet hours are over.", WAIT),
    ("the EHR cannot be read to confirm it", "The EHR cannot be read to confirm that the visit still holds.", EHR_DOWN),
    ("the brake is on: a person releases or cancels it",
     "More messages were planned within an hour than the site allows, so these wait.",
     "`bridge reminders` shows the brake: release it or cancel what it holds."),
    ("the template is {} at Meta", "Its template is {0} at Meta; it waits until that changes.",
     "Mend the template in WhatsApp Manager."),
    ("our number is on hold: {}", "Our WhatsApp number stands still: {0}.",
     "Look at the number's alarm; what waits leaves when it is mended."),
    ("not sent: {}", "WhatsApp could not be reached, so nothing left us ({0}).",
     "Nothing to do unless it lasts: it is tried again by itself. Then look at the network to WhatsApp."),
    ("WhatsApp cannot be reached", "WhatsApp could not be reached, so nothing left us.",
     "Nothing to do unless it lasts: it is tried again by itself. Then look at the network to WhatsApp."),
    ("could not start in time", "It could not leave in time and was taken back.", WAIT),
    ("its fence was not confirmed", "The store did not confirm it before it left, so it was taken back.", WAIT),
    # --- a message that ended before it left
    ("newer news", "Newer news of the same visit took its place.", NOTHING),
    ("newer news; it was never sent", "Newer news took its place while it waited for a person; it was never sent.",
     NOTHING),
    ("the resource changed since this was written",
     "The record changed before it could leave; the newer news is told instead.",
     NOTHING),
    ("the patient cancelled in this chat",
     "The patient cancelled the visit in this chat, so there is nothing left to say of it.",
     NOTHING),
    ("cancelled by a person while the brake was on", "A person cancelled it while the brake was on.", NOTHING),
    ("too late to be useful: its expiry passed before it could leave", "It could not leave before it expired.",
     "Tell the patient another way if it still matters; `bridge show` says what held it. "
     "`delivery.expires` in the mapping says how long it may wait."),
    ("the patient stopped messages on this phone", "The patient wrote STOP on this phone.",
     "Nothing to do: only the patient lifts it, by writing START."),
    ("this guardian asked us to stop", "This guardian asked us to stop.", "Reach another guardian, or call."),
    ("the number no longer belongs to this person in the EHR",
     "The number no longer belongs to this person in the EHR.",
     "Look whether the number in the EHR is right."),
    ("the patient stopped marketing messages in WhatsApp, and Meta counts this one as such",
     "The patient stopped marketing messages in WhatsApp, and Meta counts this template as marketing.",
     "Reword the template so that Meta counts it as UTILITY."),
    ("the patient does not want messages about {}", "The patient does not want messages about {0}.",
     "Nothing to do: a newer Consent in the EHR, or START in the chat, changes it."),
    ("no consent to messages about {} is known: the patient is asked",
     "No consent to messages about {0} is known; the patient was asked for it, once, and it waits for the answer.",
     "Nothing to do: a yes, here or in the EHR, lets it go, a no or its expiry ends it."),
    ("no consent to messages about {} is known: a person asks for it",
     "No consent to messages about {0} is known, and the mapping leaves it to a person to ask.",
     "Ask the patient and record the Consent in the EHR: it leaves then, until it expires."),
    ("no consent to messages about {} is known",
     "No consent to messages about {0} is known, and the site asks for one.",
     "Record the patient's Consent in the EHR; the next message leaves then."),
    ("not in the pilot", "The site runs a pilot, and neither the patient nor the place is in it.",
     "Add them to `pilot` in bridge.yaml, or end the pilot."),
    ("the 24 h window closed before it could leave: only a template may go now",
     "It was a free text, and the patient's 24 hours had passed: WhatsApp takes only templates then.",
     CALL),
    ("the EHR could not be read to confirm this reminder",
     "The EHR could not be read to confirm the visit, and this site sends no reminder unconfirmed.",
     "Call the patient if the visit is near; `reminders.unconfirmed: send` would send them all the same."),
    ("the EHR holds this visit in a form that cannot be read",
     "The EHR holds the visit in a form that cannot be put into words.",
     DESK),
    ("its row cannot be read", "What is stored of it cannot be read.",
     "If a data key was removed from `security.data_keys`, put it back; else report it with the id."),
    ("its row does not decrypt", "What is stored of it cannot be read with the keys there are.",
     "Put the key that the row names back into `security.data_keys`."),
    ("it cannot be put into a request", "The message cannot be put into the form that WhatsApp takes.",
     "`bridge preview` shows what it is made of; report it with the id."),
    # --- a message whose outcome nobody knows
    ("nobody knows whether it arrived: a person must decide",
     "Nobody knows whether it reached the patient, and no status came in time.",
     DOUBTS),
    ("the answer was lost: {}", "It was sent, and WhatsApp's answer was lost ({0}): nobody knows whether it arrived.",
     DOUBTS),
    ("the answer could not be read: {}",
     "It was sent, and WhatsApp's answer could not be read ({0}): nobody knows whether it arrived.",
     DOUBTS),
    ("this engine died while it was sending it",
     "The engine stopped in the middle of sending it: nobody knows whether it arrived.",
     DOUBTS),
    ("the node that was sending it died before it could say",
     "The node that was sending it died: nobody knows whether it arrived.",
     DOUBTS),
    ("an event of this resource could not be applied because the EHR cannot be read",
     "The record may have changed, and the EHR could not be read to see: it waits for a person.",
     "See that the EHR answers; then `bridge doubts resend` it if it still holds, or close it."),
    ("resent by a person", "A person had it sent again.", NOTHING),
    ("closed by a person", "A person closed it: it is not sent again.", NOTHING),
    ("{} by a person", "A person decided it: {0}.", NOTHING),
    # --- writes to the EHR
    ("this EHR has no base_url", "bridge may not write to this EHR: it has no `base_url`.", READ),
    ("appointments are not written back here", "This site does not write visits back to the EHR.",
     "Do by hand in the EHR what the patient asked for; `writeback.appointment: put` would do it."),
    ("communications are not written back here", "This site does not note messages in the EHR.", NOTHING),
    ("the visit had begun before it could be written", "The visit had begun before it could be written.",
     "Look at the visit in the EHR."),
    ("the message is gone", "The message it would note is gone.", NOTHING),
    ("the patient's reference cannot stand in clear", "The patient's id has a form that bridge does not write.",
     "Note it in the EHR by hand, if the site needs it there."),
    ("somebody deleted it in the EHR", "Somebody deleted the note in the EHR; it is not made again.", NOTHING),
    ("the EHR cannot be reached: {}", "The EHR could not be reached ({0}).", EHR_DOWN),
    ("could not be carried out: {}", "Something went wrong inside bridge while it was written ({0}).",
     "Do by hand in the EHR what the patient asked for; report it with the id."),
    ("{} could not be written to the EHR", "What the patient asked for ({0}) could not be written to the EHR.",
     "Do it by hand in the EHR and tell the patient."),
    ("the visit is {}", "The visit is {0} in the EHR, so it cannot be done.",
     "Look at the visit in the EHR and tell the patient."),
    ("the patient is not a participant of this visit", "The visit no longer names this patient.",
     "Look at the visit in the EHR and tell the patient."),
    ("changed since", "The visit changed in the EHR before it could be written.",
     "Nothing to do: the patient is told what holds now."),
)  # fmt: skip

_OF_REACTION = {
    "backoff": ("WhatsApp asked us to wait", "Nothing to do: it is tried again by itself."),
    "retry_after": ("WhatsApp asked us to try later", "Nothing to do: it is tried again by itself."),
    "pair": ("WhatsApp takes only so many messages for one phone at a time",
        "Nothing to do: it is tried again by itself."),
    "unsure": ("WhatsApp could not say whether it took it", DOUBTS),
    "permanent": ("WhatsApp refused it for good",
        "Tell the patient another way; `bridge explain wa:CODE` with the code in `bridge show` says how to "
        "prevent it."),
    "optout": ("The patient told WhatsApp not to want such messages", "Nothing to do: only the patient changes that."),
    "alarm_stop": ("WhatsApp refuses everything of this number",
        "Mend it, or nothing leaves: `bridge explain wa:CODE` with the code in `bridge show` says where. "
        "What waits leaves then."),
    "window": ("The patient's 24 hours had passed", "Tell the patient another way, or by a template."),
    "hold_template": ("WhatsApp does not take its template",
        "Mend the template in WhatsApp Manager; what waits leaves then."),
}  # fmt: skip

# What a fate or a state says by itself, for a reason that is not in the catalogue.
FATES: Mapping[str, tuple[str, str]] = {
    "planned": ("It became messages.", NOTHING),
    "applied": ("It was noted, and nobody had to be told.", NOTHING),
    "merged": ("It brought nothing new.", NOTHING),
    "suppressed": ("Nobody was told, because the mapping or the site's rules say so.",
        "If the patient should have been told, change the condition named; `bridge preview MAPPING evt_…` "
        "shows each with its value."),
    "ignored": ("bridge has no use for it.", NOTHING),
    "unusable": ("What came cannot be read, so nothing could be made of it.",
        "`bridge show evt_… --reveal` has what came; show it to whoever runs the sender."),
    "failed": ("It could not be applied.",
        "Correct the record in the EHR, or report it with the id; `bridge replay evt_…` decides it again."),
}  # fmt: skip
WAITING = (
    "It has not been applied yet.",
    "Nothing to do unless it lasts: it is tried again by itself. `bridge show` has its next try.",
)
STATES: Mapping[str, tuple[str, str]] = {
    "planned": ("It is planned and has not left yet.", WAIT),
    "ready": ("It is about to leave.", WAIT),
    "sending": ("It is leaving at this moment.", WAIT),
    "accepted": ("WhatsApp took it; nothing is known of the phone yet.",
        "Nothing to do: a phone that is off shows it later."),
    "sent": ("It is on its way to the phone.", "Nothing to do: a phone that is off shows it later."),
    "delivered": ("It reached the phone.", NOTHING),
    "read": ("It was read.", NOTHING),
    "played": ("It was played.", NOTHING),
    "failed": ("It was not delivered.",
        "Tell the patient another way; `bridge show` has WhatsApp's code and `bridge explain wa:CODE` what it means."),
    "superseded": ("Newer news took its place.", NOTHING),
    "cancelled": ("It was taken back before it left.", NOTHING),
    "suppressed": ("It was not sent, because the mapping or the site's rules say so.",
        "If it should have been sent, change the condition named; `bridge preview` shows each with its value."),
    "expired": ("It could not leave before it expired.", "Tell the patient another way if it still matters."),
    "doubt": ("Nobody knows whether it arrived.", DOUBTS),
    "held": ("It waits for a person.", DOUBTS),
    "closed": ("A person closed it.", NOTHING),
}  # fmt: skip
WRITES: Mapping[str, tuple[str, str]] = {
    "asked": ("It has not been written to the EHR yet.", EHR_DOWN),
    "sending": ("It is being written to the EHR.", WAIT),
    "done": ("It stands in the EHR.", NOTHING),
    "merged": ("It need not be written any more.", NOTHING),
    "refused": ("The EHR refused it.", "Do it by hand in the EHR; the EHR's log says why it refused."),
    "held": ("It could not be written and waits for a person.",
        "Do it by hand in the EHR, and tell the patient if they asked for it."),
}  # fmt: skip
_KINDS = {"event": FATES, "message": STATES, "write": WRITES}


def told(kind: str, state: str | None, reason: str | None) -> tuple[Told, ...]:
    """What a fate or a state with its reason says, in sentences; at least one.

    Args:
        kind: event, message or write.
        state: its fate or state; None for an event that waits.
        reason: as it is stored; several are joined by "; ".
    """
    happened, todo = _KINDS[kind].get(state, WAITING) if state is not None else WAITING
    if not reason:
        return (Told(happened, todo),)
    found = sentence(reason)
    if found is not None:
        return (found,)
    if PATIENTS.match(reason):  # of a visit for several: each part says whose it is
        return tuple(_of_one(part, kind, state) for part in by_patient(reason))
    several = [(each, sentence(each)) for each in reason.split("; ")]
    if len(several) > 1 and any(each is not None for _, each in several):
        return tuple(each or _quoted(text, happened, todo) for text, each in several)
    return (_quoted(reason, happened, todo),)


def by_patient(reason: str) -> list[str]:
    """The parts of a reason in which each patient of a visit has their own: "Patient/ana: no phone …"."""
    return PATIENTS.split(reason)[1:] if PATIENTS.match(reason) else [reason]


def _of_one(part: str, kind: str, state: str | None) -> Told:
    who, _, reason = part.partition(": ")
    said = told(kind, state, reason)[0]
    return Told(f"{who}: {said.happened}", said.todo, said.known)


def _quoted(reason: str, happened: str, todo: str) -> Told:
    return Told(f"{happened.removesuffix('.')}: “{reason}”.", todo, known=False)


def sentence(reason: str) -> Told | None:
    """The sentence of one reason of ours; None where the words are somebody else's."""
    tried = re.fullmatch(r"(.+); tried (\d+) times", reason)
    if tried and (before := sentence(tried[1])) is not None:
        return Told(f"{before.happened.removesuffix('.')}, {tried[2]} times.", "Tell the patient another way.")
    for pattern, happened, todo in _compiled():
        match = pattern.fullmatch(reason)
        if match:
            holes = [each for each in match.groups() if each is not None] or [reason]
            return Told(happened.format(*holes, *[""] * 3), todo)
    return None


@lru_cache(maxsize=1)
def _compiled() -> Sequence[tuple[re.Pattern[str], str, str]]:
    return tuple(
        (re.compile("|".join(_pattern(each) for each in reason.split("|")), re.DOTALL), happened, todo)
        for reason, happened, todo in (*_SENTENCES, *_reactions())
    )


def _pattern(text: str) -> str:
    return re.escape(text).replace(r"\{\}", "(.+)").replace(r"an\?", "an?")


def _reactions() -> Iterator[tuple[str, str, str]]:
    """WhatsApp's refusals, from the one table that says how bridge reacts to them."""
    every: list[Reaction] = [*BY_CODE.values(), *BY_HTTP.values(), REDIRECTED, REFUSED, SERVER_ERROR, UNKNOWN_CODE]
    for reaction in dict.fromkeys(every):
        happened, todo = _OF_REACTION[reaction.kind]
        yield reaction.reason.replace("|", "/"), f"{happened}: {reaction.reason}.", todo
