"""A stand-in for the verifier of Turnstile or hCaptcha: the same form, the same answers.

developers.cloudflare.com/turnstile/get-started/server-side-validation. What begins with `solved-` is a token that
somebody solved; each passes once, and again for the same idempotency_key.
"""

import json
from threading import Lock

from werkzeug.wrappers import Request, Response

SECRET = "sandbox-challenge-secret"


class Verifier:
    def __init__(self) -> None:
        self._spent: dict[str, str] = {}
        self._lock = Lock()

    def __call__(self, request: Request) -> Response:
        errors = self._errors(request.form)
        content = {"success": not errors, "error-codes": errors}
        return Response(json.dumps(content), status=400 if errors else 200, content_type="application/json")

    def _errors(self, form: dict[str, str]) -> list[str]:
        if form.get("secret") != SECRET:
            return ["invalid-input-secret" if form.get("secret") else "missing-input-secret"]
        token, key = form.get("response", ""), form.get("idempotency_key", "")
        if not token.startswith("solved-"):
            return ["invalid-input-response" if token else "missing-input-response"]
        with self._lock:
            is_first = token not in self._spent
            if is_first or (key and self._spent[token] == key):
                self._spent[token] = key
                return []
        return ["timeout-or-duplicate"]
