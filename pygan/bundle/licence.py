"""The licence field of a model card: an identifier that the Hub lists, or "other" with a name."""

from __future__ import annotations

import re

from pygan.errors import UserError

# huggingface.co/docs/hub/repositories-licenses. What is missing here is "other" with its name, which is true as well.
_LISTED = frozenset(
    """
    afl-3.0 agpl-3.0 apache-2.0 apple-amlr apple-ascl artistic-2.0 bigcode-openrail-m bigscience-bloom-rail-1.0
    bigscience-openrail-m bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear bsl-1.0 c-uda cc cc-by-2.0 cc-by-2.5
    cc-by-3.0 cc-by-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nc-nd-3.0 cc-by-nc-nd-4.0 cc-by-nc-sa-2.0
    cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cc-by-nd-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc0-1.0 cdla-permissive-1.0
    cdla-permissive-2.0 cdla-sharing-1.0 creativeml-openrail-m deepfloyd-if-license ecl-2.0 epl-1.0 epl-2.0 etalab-2.0
    eupl-1.1 eupl-1.2 fair-noncommercial-research-license gemma gfdl gpl gpl-2.0 gpl-3.0 intel-research isc lgpl
    lgpl-2.1 lgpl-3.0 lgpl-lr lppl-1.3c mit mpl-2.0 ms-pl ncsa odbl odc-by ofl-1.1 openmdw-1.0 openrail openrail++
    osl-3.0 pddl postgresql unknown unlicense wtfpl zlib
    """.split()  # noqa: SIM905
)
_FORM = re.compile(r"[a-z0-9][a-z0-9.+-]{0,63}")


def fields(said: str) -> dict[str, str]:
    """The fields of the front matter for a licence as it was named, "" for none: {"license": ...}, perhaps with a name.

    SPDX identifiers may have capitals. Errors: UserError for what cannot be an identifier.
    """
    name = said.strip().lower() or "unknown"
    if not _FORM.fullmatch(name):
        raise UserError(
            f"--license must be an identifier of letters, digits, '.', '+' and '-', such as mit, apache-2.0 or "
            f"cc-by-4.0, got {said!r}; write the text of a licence of your own into LICENSE"
        )
    if name in _LISTED:
        return {"license": name}
    return {"license": "other", "license_name": name}
