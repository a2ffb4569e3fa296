"""What the server understands, as an OpenAPI document, and a page that shows it without fetching anything."""

from .payload import MOST_EVIDENCE

PARAMETERS = {
    "top_k": {"type": "integer", "minimum": 1, "default": 1, "description": "Answers to a question, best first."},
    "question_type": {
        "type": ["string", "null"],
        "enum": ["binary", "open_ended", None],
        "description": "The head that answers; the model chooses when left out.",
    },
    "abstain": {
        "type": ["boolean", "null"],
        "description": "false answers every question, true leaves unsure ones unanswered; they are where the model has "
        "a threshold when left out.",
    },
    "coverage": {
        "type": ["number", "null"],
        "exclusiveMinimum": 0,
        "exclusiveMaximum": 1,
        "description": "As many answers as it takes for the right one to be among them in this share of cases, in "
        "place of top_k.",
    },
    "group": {"type": ["string", "null"], "description": "Of the questions, where promises were made by a column."},
    "evidence": {
        "type": ["integer", "null"],
        "minimum": 1,
        "maximum": MOST_EVIDENCE,
        "description": "At most so many examples of the memory that spoke for an answer, of a folder with their texts.",
    },
    "truncation": {
        "type": ["boolean", "null"],
        "description": "false refuses questions that the model can't read whole; they are cut when left out.",
    },
}
ANSWER = {
    "type": "object",
    "required": ["answer", "score", "question_type"],
    "properties": {
        "answer": {"type": ["string", "null"], "description": "null where it was withheld, see best_guess."},
        "score": {"type": "number", "minimum": 0, "maximum": 1, "description": "Its probability."},
        "question_type": {"type": "string", "enum": ["binary", "open_ended"]},
        "best_guess": {"type": "string", "description": "What the answer would have been."},
        "coverage": {
            "type": ["number", "null"],
            "description": "The promise that these answers are a set of; null where nothing can be promised.",
        },
        "unfamiliar": {
            "type": "object",
            "description": "Which of both is unlike what the model was trained on; null where it isn't judged.",
            "properties": {"image": {"type": ["boolean", "null"]}, "question": {"type": ["boolean", "null"]}},
        },
        "evidence": {
            "type": "array",
            "description": "Examples that spoke for the answer, the most similar first.",
            "items": {
                "type": "object",
                "required": ["image", "question", "answer", "similarity", "weight"],
                "properties": {
                    "image": {"type": "string", "description": "A name."},
                    "question": {"type": "string"},
                    "answer": {"type": "string"},
                    "similarity": {"type": "number"},
                    "weight": {"type": "number", "description": "Its share in the memory's vote."},
                },
            },
        },
    },
}
ERRORS = {
    "400": "The body is no JSON, or no form: damaged, too deep, NaN, a name that stands twice.",
    "408": "The body came too slowly.",
    "413": "The body is too large.",
    "415": "Neither JSON nor a form, or compressed.",
    "422": "Image, question or parameters can't be used; the error says what was expected and what was found.",
    "503": "Too many requests at a time, or the server is being stopped; Retry-After says when to come again.",
    "504": "No answer in time.",
}


def describe(settings):
    """The OpenAPI 3.1 document of a server with these [`ServerSettings`]."""
    one = {"type": "string", "minLength": 1, "maxLength": 10_000}
    question = {"oneOf": [one, {"type": "array", "items": one, "minItems": 1, "maxItems": settings.max_questions}]}
    row = {
        "image": {"type": "string", "description": f"Base64 text or data URL{sources(settings)}."},
        "question": {**question, "description": "One, or several about the image."},
    }
    nested = {"type": "object", "required": ["image", "question"], "properties": row}
    parameters = {"type": "object", "additionalProperties": False, "properties": PARAMETERS}
    body = {
        "type": "object",
        "description": f"At most {settings.max_body:,} bytes. Image and question may stand in inputs, as Inference "
        "Endpoints have it.",
        "properties": {**row, "inputs": {"oneOf": [nested, {"type": "string"}]}, "parameters": parameters},
    }
    form = {
        "type": "object",
        "required": ["image", "question"],
        "properties": {
            "image": {"type": "string", "format": "binary"},
            "question": {"type": "array", "items": one, "description": "The field may stand several times."},
            **PARAMETERS,
        },
    }
    best = {"type": "array", "items": {"$ref": "#/components/schemas/Answer"}}
    answers = {"oneOf": [best, {"type": "array", "items": best}]}
    shown = {
        status: {
            "description": text,
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
        }
        for status, text in ERRORS.items()
    }
    right = "For a question its answers, best first; for a list of questions a list of these."
    answer = {
        "summary": "Answers to questions about an image",
        "parameters": [
            {
                "name": "X-Request-ID",
                "in": "header",
                "schema": {"type": "string", "maxLength": 128},
                "description": "Comes back with the answer.",
            }
        ],
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": body}, "multipart/form-data": {"schema": form}},
        },
        "responses": {"200": {"description": right, "content": {"application/json": {"schema": answers}}}, **shown},
    }
    ready = {"200": {"description": "A question would be answered now."}, "503": shown["503"]}
    return {
        "openapi": "3.1.0",
        "info": {"title": "DualVQA", "version": "1", "description": "Visual question answering over HTTP."},
        "paths": {
            "/answer": {"post": answer},
            "/health": {"get": {"summary": "Is the process there?", "responses": {"200": {"description": "Yes."}}}},
            "/ready": {"get": {"summary": "Would a question be answered now?", "responses": ready}},
        },
        "components": {
            "schemas": {
                "Answer": ANSWER,
                "Error": {"type": "object", "required": ["error"], "properties": {"error": {"type": "string"}}},
            }
        },
    }


def sources(settings):
    """Where images may come from besides."""
    urls = settings.allow_urls or settings.allow_hosts
    more = [*(["http(s) URL"] * bool(urls)), *(["path on the server"] * bool(settings.allow_folders))]
    return "".join(f", or {name}" for name in more)


PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>DualVQA over HTTP</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; max-width: 46rem; margin: 2rem auto; padding: 0 1rem }
pre { background: #f4f4f4; padding: .8rem; white-space: pre-wrap; overflow-wrap: anywhere }
td { padding-right: 1rem; vertical-align: top }
input { margin: .2rem 0; max-width: 100% }
</style>
<h1>DualVQA over HTTP</h1>
<h2>Try it</h2>
<form id="form">
<p><input type="file" name="image" accept="image/*" required>
<p><input name="question" size="40" placeholder="a question about it" required>
<input name="top_k" type="number" min="1" value="3"> answers <button>Ask</button>
</form>
<pre id="answer" aria-live="polite"></pre>
<h2>Routes</h2>
<div id="routes"></div>
<p>The whole of it, for machines: <a href="openapi.json">openapi.json</a></p>
<script>
const add = (parent, name, text) =>
  Object.assign(parent.appendChild(document.createElement(name)), {textContent: text});
form.onsubmit = async event => {
  event.preventDefault();
  answer.textContent = "...";
  const found = await fetch("answer", {method: "POST", body: new FormData(form)});
  answer.textContent = found.status + " " + JSON.stringify(await found.json(), null, 1);
};
fetch("openapi.json").then(found => found.json()).then(found => {
  for (const [path, methods] of Object.entries(found.paths))
    for (const [method, route] of Object.entries(methods)) {
      add(routes, "h3", method.toUpperCase() + " " + path);
      add(routes, "p", route.summary);
      for (const [kind, body] of Object.entries(route.requestBody?.content ?? {})) {
        add(routes, "p", kind);
        add(routes, "pre", JSON.stringify(body.schema, null, 1));
      }
      const table = add(routes, "table", "");
      for (const [status, said] of Object.entries(route.responses)) {
        const row = add(table, "tr", "");
        add(row, "td", status);
        add(row, "td", said.description);
      }
    }
});
</script>
</html>
"""
