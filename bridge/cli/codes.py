"""Every BR code: what it says and what to do. `bridge explain BR011` prints it; a test holds it against the code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Code:
    what: str  # a noun phrase
    why: str  # what usually causes it
    fix: str  # what to do


CODES: Mapping[str, Code] = {
    # --- the file as YAML ---
    "BR001": Code(
        "The file is not YAML.",
        "A bracket or quote that is not closed, a colon inside a value, or wrong indentation; the place is where the "
        "parser gave up, which may be a line after the mistake.",
        "Look at the named line and the one above; put values that contain `: ` or ` #` in quotes.",
    ),
    "BR002": Code(
        "A key is set twice in the same mapping.",
        "Two blocks were merged by hand. Which one wins differs between YAML readers, so neither does here.",
        "Keep one of the two.",
    ),
    "BR003": Code(
        "A tab stands where YAML wants spaces.", "The editor indents with tabs.", "Indent with two spaces per level."
    ),
    "BR004": Code(
        "The file uses what has no meaning in a config.",
        "A tag (`!x`), a merge key (`<<`), a number with a leading zero, a value that contains itself: other readers "
        "understand them differently.",
        "Write the plain value where it is used; write ids and numbers that begin with 0 in quotes.",
    ),
    "BR005": Code(
        "A word in `{…}` has no value.",
        "A text with a comma has no quotes: `{es: No, gracias}` is two keys to YAML.",
        'Put the text in quotes: `{es: "No, gracias"}`.',
    ),
    "BR006": Code(
        "The file holds no document, or more than one.", "It is empty, or has a line `---`.", "One file, one document."
    ),
    "BR007": Code(
        "The file cannot be read.",
        "It is not there, is not UTF-8, or its permissions forbid it.",
        "Look at the path (`--config` or BRIDGE_CONFIG) and at who may read it.",
    ),
    # --- its shape ---
    "BR010": Code(
        "A value of the wrong kind or size.",
        "A list where one value belongs, a number where text does, yes for true: YAML 1.2 knows only true and false.",
        "Write the kind the message names; text that looks like a number goes in quotes.",
    ),
    "BR011": Code(
        "A key that nothing reads.",
        "A spelling mistake, or a key of another section.",
        "Take the suggestion, or look the key up in `config/schemas/`. Unknown keys are refused because a setting that "
        "is silently ignored is a setting that somebody relies on.",
    ),
    "BR012": Code(
        "A value that is not one of the allowed ones.",
        "A spelling mistake, or a name that nothing of this configuration has.",
        "Take the suggestion or one of the values that the message lists.",
    ),
    "BR013": Code(
        "A key is missing that must be there.", "It was left out, or is misspelt (see BR011).", "Add the named key."
    ),
    "BR014": Code(
        "A key that belongs to something else.",
        "`remind` without `event: appointment.reminder`, or the key of another kind of door or auth.",
        "Remove it, or change what the message names.",
    ),
    "BR015": Code(
        "A value of the right kind in the wrong form.",
        "A duration, time of day, id or reference that is written differently.",
        "Write it like the message's example.",
    ),
    # --- FHIRPath ---
    "BR020": Code(
        "An expression that is not FHIRPath.",
        "Two paths without an operator between them, a parenthesis that is not closed, words after the end.",
        "Look at the column: that is the first thing that does not fit.",
    ),
    "BR021": Code(
        "An element that the resource does not have.",
        "A spelling mistake, or an element of another FHIR version or resource.",
        "Take the suggestion; `bridge preview` shows the resource as it comes.",
    ),
    "BR022": Code(
        "A %name that does not exist here.",
        "It is misspelt, defined further down in `let`, or belongs to another event.",
        "There are %patient %guardian %practitioner %location %organization %previous %origin %now %today, "
        "%site_policy and what `let` defines above.",
    ),
    "BR023": Code(
        "A function that does not exist, is refused, or has other arguments.",
        "Functions that read the machine's clock or the network are refused, for a preview must show what will be sent.",
        "Take the suggestion, or what the message names instead.",
    ),
    "BR024": Code(
        "A formatter that cannot put this into words.",
        "`as: date.long` on a name, or a path that ends at a whole object.",
        "Choose the formatter that the message names, or go one element deeper.",
    ),
    "BR025": Code(
        "An expression that gives something else than is needed here.",
        "A condition that gives a value instead of true or false, or operators between kinds that do not compare.",
        "End conditions in a comparison, `.exists()` or `.empty()`.",
    ),
    "BR026": Code(
        "A type that FHIR does not have.", "A misspelt type behind `is`, `as` or `ofType`.", "Take the suggestion."
    ),
    # --- bridge.yaml ---
    "BR030": Code(
        "A secret is written out.",
        "A token, key or password stands in the file itself, where backups and version control keep it.",
        "Write ${env:NAME} or ${file:path}, put the value there, and change the secret: it has been seen.",
    ),
    "BR031": Code(
        "A secret is missing from the environment.",
        "The named variable is not set, or is empty, for the process that starts bridge.",
        "Set it. `bridge check --no-secrets` checks everything else without it.",
    ),
    "BR032": Code(
        "The file of a secret cannot be read, or is empty.",
        "It is not mounted, or belongs to another user. Relative paths begin at the folder of bridge.yaml.",
        "Write the file, readable by the user that runs bridge.",
    ),
    "BR033": Code(
        "A place that does not exist.",
        "A time zone or country under another name.",
        "Zones are IANA names (Europe/Madrid), countries two capital letters (ES).",
    ),
    "BR034": Code(
        "An address that cannot be used.",
        "A URL without https://, with a query or a password, a port above 65535, or a store of another kind.",
        "Write it like the message says; credentials belong into `auth`.",
    ),
    "BR035": Code(
        "A key that is too short or not in base64.",
        "Data keys are 32 random bytes; a password typed by a person is not.",
        "head -c 32 /dev/urandom | base64",
    ),
    "BR036": Code(
        "Two settings that do not go together.",
        "Each is fine alone.",
        "The message names both; change one of them.",
    ),
    # --- mappings and templates ---
    "BR040": Code(
        "A mapping sends a template that is not in `config/templates/`.",
        "A spelling mistake, or the template's file is missing or refused.",
        "Take the suggestion, or write the template and have Meta approve it.",
    ),
    "BR041": Code(
        "Blanks that do not fit.",
        "The mapping fills a blank that the template lacks, or leaves one empty; or a template's text and its `params` "
        "differ.",
        "Make the names equal in the mapping's `params`, the template's `params` and every language's text.",
    ),
    "BR042": Code(
        "Buttons that do not fit the template.",
        "An id that the template lacks, one that is there twice, or one of the template's that nothing answers.",
        "Name each button of the template once, in its order.",
    ),
    "BR043": Code(
        "Nothing is said about what a guardian gets.",
        "The mapping may write to a minor's guardian and has no `send.guardian`.",
        "Add `send.guardian` with a template that does not give away more than it must, or `recipient: {who: patient}`.",
    ),
    "BR044": Code(
        "Two mappings run on one event without conditions that exclude each other.",
        "The patient would get two messages for one change.",
        "Give one of them a `when` that is false where the other's is true, or `enabled: false`.",
    ),
    "BR045": Code(
        "A language is missing.",
        "A text or template lacks a language that the site speaks.",
        "Add it; the site's first language must always be there.",
    ),
    "BR046": Code("A name is taken.", "Two files have the same id or name.", "Rename one of them."),
    "BR047": Code(
        "An example of a mapping does not come out as it says.",
        "The mapping, the template or the fixture has changed since the example was written.",
        "Look at what came out; mend the mapping, or the example if the new text is right.",
    ),
    "BR048": Code(
        "A button without a title.",
        "`config/templates/buttons.yaml` lacks the button, or its title in a language of the template.",
        "Add the title, at most 20 characters.",
    ),
    "BR049": Code(
        "A mapping sends a template that Meta has not approved.",
        "The template's file says so (`status:`): it waits for Meta, was rejected, or is paused for its quality.",
        "Wait, or reword it and send it in again; `status: approved` once Meta has approved it.",
    ),
    # --- the wording of templates ---
    "BR050": Code(
        "A variable stands first or last.",
        "Meta refuses templates that begin or end with a variable.",
        "Put words before and after it.",
    ),
    "BR051": Code("Two variables stand side by side.", "Meta refuses them.", "Put words between them."),
    "BR052": Code(
        "Too few words for so many variables.",
        "Meta refuses a text that is mostly variables.",
        "Write more words, or take a variable out.",
    ),
    "BR053": Code(
        "A template that is too long when filled.",
        "WhatsApp takes 1,024 characters.",
        "Shorten the text, or the `max` of its longest value.",
    ),
    "BR054": Code(
        "A word that reads as advertising.",
        "Meta would file the template as marketing: dearer, and stopped for who does not want it.",
        "Say the same without it.",
    ),
    "BR055": Code(
        "A clinical word.",
        "The lock screen shows the text to whoever holds the phone.",
        "Say only that there is something, not what it is about.",
    ),
    "BR056": Code(
        "A sample that could not be sent.",
        "Line breaks, tabs, many spaces or an unusual length: WhatsApp refuses such values.",
        "Write a sample like a real value.",
    ),
    "BR057": Code(
        "Buttons that WhatsApp refuses.",
        "Too many, too long a title, or two titles alike.",
        "At most the number and length that the message names.",
    ),
    "BR058": Code(
        "The languages of a template differ.",
        "One lacks a variable or a title that another has.",
        "Bring them into line: the same values fill all of them.",
    ),
    "BR059": Code("A template's name that Meta refuses.", "It has other characters than a-z, 0-9 and _.", "Rename it."),
    # --- words and replies ---
    "BR060": Code(
        "A word that can never match.",
        "Nothing is left of it once signs and accents are taken away.",
        "Write a word with letters or digits, or remove it.",
    ),
    "BR061": Code(
        "A word that means two things.",
        "It stands in two lists, or in two languages with different meanings.",
        "Keep it where it is safest to be right: a patient's word must mean one thing.",
    ),
    "BR062": Code(
        "CANCEL is never STOP.",
        "A word that asks to cancel the visit stands among the words that stop all messages.",
        "Remove it: bridge asks back which of the two is meant.",
    ),
    "BR063": Code(
        "A field that this reply does not have, or lacks.",
        "A misspelt {field}, an open brace, or a field that the sentence needs to be true.",
        "The message names the fields of the reply.",
    ),
    "BR064": Code(
        "A text that is too long for WhatsApp.",
        "1,024 characters for a text with buttons, 20 for a button's title.",
        "Shorten it in that language.",
    ),
    "BR065": Code(
        "Two buttons of one question look alike.",
        "WhatsApp refuses equal titles, and a person could not choose.",
        "Give them different titles.",
    ),
    "BR066": Code(
        "The replies of a language are missing, or there twice.",
        "`site.languages` names a language without a file in `config/replies/`.",
        "Copy another language's file and translate it, or take the language out.",
    ),
}
