#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Fails when an #include crosses the layers or a library is used outside its home.

Layers are folders; each lists the folders it may include from, itself always among them.  Two narrow exceptions have
their reason beside them.  A library's home is the only folder or file that may include its headers.
"""

import re
import sys
from pathlib import Path

LAYERS = {
    "common": set(),
    "ipc-schema": {"common"},
    "worker/sandbox": {"common"},
    "supervisor/schema": {"common"},
    "supervisor/audit": {"common"},
    "supervisor/evidence": {"common"},
    "supervisor/policy": {"common", "supervisor/schema"},
    "worker": {"common", "ipc-schema", "worker/sandbox"},
    "gateway": {"common"},
    "supervisor": {"common", "ipc-schema", "supervisor/policy", "supervisor/schema", "supervisor/audit"},
    # `crewctl sandbox`, `policy check` and `policy explain` work without a daemon: they use the frozen-policy and jail
    # libraries directly instead of growing a second implementation.
    "cli": {"common", "ipc-schema", "supervisor/policy", "supervisor/schema", "worker/sandbox"},
    "bench": {"common", "ipc-schema", "supervisor", "supervisor/policy", "supervisor/schema", "worker", "worker/sandbox"},
}
# file -> header it may include although its layer may not
EXCEPTIONS = {
    # The compiled seccomp program is part of the plan; libseccomp's home stays worker/sandbox.
    ("supervisor/policy", "worker/sandbox/filter.h"),
}
HOMES = {
    r"yaml\.h": ["supervisor/policy"],
    r"jansson\.h": ["supervisor/schema", "supervisor/policy", "worker", "cli", "supervisor"],
    r"seccomp\.h": ["worker/sandbox"],
    r"sodium(/.*)?\.h": ["common/digest.c", "common/keys.c"],
    r"nng/.*": ["supervisor/link.c"],
    r"uv\.h": ["supervisor", "bench"],
    r"openssl/sha\.h": ["supervisor/audit/audit_digest.c", "gateway"],
    r"openssl/(?!sha\.h).*": ["gateway"],
    r"curl/.*": ["gateway/webhook.c"],
    r"linux/landlock\.h": ["common/landlock.h", "bench"],  # the yardstick names its own rights
    r"libnftnl/.*|libmnl/.*|nftables/.*": ["gateway"],
    r"protobuf-c/.*": ["ipc-schema"],
}
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^">]+)[">]', re.M)


def layer_of(path):
    parts = path.parent.parts
    for n in range(len(parts), 0, -1):
        name = "/".join(parts[:n])
        if name in LAYERS:
            return name
    return None


def resolve(root, source, header):
    for base in (source.parent, Path("."), Path("ipc-schema")):
        if (root / base / header).exists():
            return base / header
    return None


def check(root):
    problems = []
    for source in sorted(p.relative_to(root) for p in root.rglob("*.[ch]")):
        layer = layer_of(source)
        if layer is None or "build" in source.parts[0]:
            continue
        text = (root / source).read_text(encoding="utf-8")
        for kind, header in INCLUDE.findall(text):
            line = text[: text.index(header)].count("\n") + 1
            for pattern, homes in HOMES.items():
                if re.fullmatch(pattern, header) and not any(
                        str(source) == h or layer == h for h in homes):
                    problems.append(f"{source}:{line}: <{header}> is at home in {', '.join(homes)} only")
            target = resolve(root, source, header) if kind == '"' else None
            if target is None:
                continue
            to = layer_of(target)
            if to in (None, layer) or to in LAYERS[layer] or (layer, str(target)) in EXCEPTIONS:
                continue
            problems.append(f"{source}:{line}: {layer} must not include {target} (layer {to})")
    return problems


def main():
    root = Path(__file__).resolve().parent.parent
    problems = check(root)
    for p in problems:
        print(p)
    print(f"layers: {len(problems)} violations" if problems else "layers: clean")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
